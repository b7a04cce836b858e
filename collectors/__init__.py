"""The collectors app."""
