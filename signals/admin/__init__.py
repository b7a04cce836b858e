"""The admin pages of signals. What was said is a record; how a strategy is set can be changed, and
each change is a record too. The other modules are its parts."""

from signals.admin import outside, records, strategies

__all__ = ["outside", "records", "strategies"]
