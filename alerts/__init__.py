"""The alerts app."""
