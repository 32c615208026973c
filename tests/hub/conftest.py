from publishing import checkpoint, network, no_waiting

__all__ = ["checkpoint", "network", "no_waiting"]
