"""What risk tells downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# profile_id: int
trading_state_changed = Signal()
