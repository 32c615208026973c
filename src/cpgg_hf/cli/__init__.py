"""The `cpgg` command line: one file per command."""
