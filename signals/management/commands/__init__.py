"""Django commands of the signals app."""
