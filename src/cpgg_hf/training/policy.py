"""A trained network takes over the strictest `data_policy` of what it was trained on and with."""

from __future__ import annotations

from typing import Any

from cpgg_hf.data_policy import strictest
from cpgg_hf.hub.policy import policy_of
from cpgg_hf.training.arguments import TrainingArguments

_DATA = ("data", "validation_data")
_NETWORKS = ("vae", "phenotype_vae", "init_from")


def inherited_policy(arguments: TrainingArguments) -> str:
    """The strictest policy of the data sets and networks that a stage's arguments name."""
    sources = [(name, "dataset") for name in _DATA] + [(name, "model") for name in _NETWORKS]
    named = [(getattr(arguments, name, None), repo_type) for name, repo_type in sources]
    return strictest(policy_of(source, repo_type) for source, repo_type in named if source)


def record_policy(network: Any, policy: str) -> None:
    """Write a policy into the configuration that the network is saved with."""
    if hasattr(network, "register_to_config"):  # diffusers
        network.register_to_config(data_policy=policy)
    else:  # transformers
        network.config.data_policy = policy
