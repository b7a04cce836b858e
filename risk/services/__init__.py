"""What risk does for trading. The other modules are its parts."""

from risk.services.assessments import assess, refuse
from risk.services.profiles import change_limit, create_profile, keep_refusal, refuse_limit
from risk.services.states import check_switch, record_state, tell_change

__all__ = [
    "assess",
    "change_limit",
    "check_switch",
    "create_profile",
    "keep_refusal",
    "record_state",
    "refuse",
    "refuse_limit",
    "tell_change",
]
