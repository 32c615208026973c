"""What leaves the house: pushes to a hub behind the data policy, cards, and code for hub repositories.

Everything that publishes goes through `push_folder`: the models' and the pipeline's `push_to_hub`, `--push_to_hub` of
the training scripts, `cpgg push`. It refuses restricted artefacts and files that name a participant.
"""

from cpgg_hf.publishing.errors import IdentifierError, PolicyError, PublishingError
from cpgg_hf.publishing.guarded_push import PushesByPolicy


def __getattr__(name: str):
    if name == "push_folder":  # brings the hub's client, which takes a while to import
        from cpgg_hf.publishing.hub import push_folder

        return push_folder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["IdentifierError", "PolicyError", "PublishingError", "PushesByPolicy", "push_folder"]
