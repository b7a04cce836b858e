"""How pages write numbers and times, by language."""
