"""Model cards, and code for Hub repositories that load without this package."""
