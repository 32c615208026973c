"""What the `cpgg` commands are called, take and print; `cpgg_hf.commands` does what they say."""
