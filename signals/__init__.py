"""The signals app."""
