"""The realtime app."""
