"""What risk tells downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# change_id: int (a change of a profile's trading state, or of the desk's)
trading_state_changed = Signal()
