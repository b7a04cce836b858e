"""Exchange clients, one module each; `collectors.exchange` is their contract."""
