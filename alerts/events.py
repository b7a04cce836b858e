"""What alerts tell downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# alert_ids: list[int]
alerts_raised = Signal()
