"""The risk app."""
