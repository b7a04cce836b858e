"""The strategies, one file each; `signals.strategy` is their contract."""
