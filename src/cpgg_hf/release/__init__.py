"""What is published with a model: its card, and code for hub repositories that load without this package."""
