"""What the `cpgg` commands do: read, call the package's rooms, write whole results."""
