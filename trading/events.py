"""What trading tells downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# fill_ids: list[int]
fills_recorded = Signal()
# decision_ids: list[int] (risk decisions, approved or refused)
decisions_recorded = Signal()
# Nothing more: orders have begun to work, and whoever watches quotes for them reads the rows.
orders_placed = Signal()
