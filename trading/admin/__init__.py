"""The books in the admin. What was written by trading is read only; accounts can be adjusted."""

from trading.admin import accounts, backtests, books, orders

__all__ = ["accounts", "backtests", "books", "orders"]
