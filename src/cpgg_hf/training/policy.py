"""A trained network inherits the strictest `data_policy` of its sources, which its stage's arguments declare."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from cpgg_hf.data_policy import UNKNOWN_POLICY
from cpgg_hf.hub.policy import policy_of
from cpgg_hf.training.arguments import TrainingArguments, is_free_text


def source_policies(arguments: TrainingArguments) -> dict[str, str]:
    """The policy of every source that is given, by the name of its argument.

    A source is any free text that is not declared to be none (see `argument`). A source that states no policy has the
    one that the user states for it, else it is restricted; a statement never loosens what a source states itself.
    """
    kinds, policies = get_type_hints(type(arguments)), {}
    for entry in fields(arguments):
        value, source = getattr(arguments, entry.name), entry.metadata.get("source", "undeclared")
        if not entry.init or not value or source == "none" or not is_free_text(kinds[entry.name]):
            continue
        if source == "phantoms":
            policies[entry.name] = "phantom"
        elif value in entry.metadata.get("public", ()):
            policies[entry.name] = "public"
        elif source in ("model", "dataset"):
            policies[entry.name] = policy_of(value, source, arguments.source_policies.get(entry.name))
        else:
            policies[entry.name] = UNKNOWN_POLICY
    return policies


def record_policy(network: Any, policy: str) -> None:
    """Write a policy into the configuration that the network is saved with."""
    if hasattr(network, "register_to_config"):  # diffusers
        network.register_to_config(data_policy=policy)
    else:  # transformers
        network.config.data_policy = policy
