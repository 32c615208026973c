"""One file per trainable network: its arguments, data, loss and validation."""
