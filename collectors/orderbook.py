"""The levels of one order book, and what they say. Pure."""

from __future__ import annotations


class OrderBook:
    """Prices and quantities of both sides."""
