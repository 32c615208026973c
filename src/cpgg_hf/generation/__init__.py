"""Data sets generated at scale: any number of processes and nodes on one folder, killable, the same bytes always."""

from cpgg_hf.errors import RequestError
from cpgg_hf.generation.conditions import Condition, parse_condition
from cpgg_hf.generation.request import GenerationRequest
from cpgg_hf.generation.run import exit_on_sigterm, generate_dataset
from cpgg_hf.generation.seeds import sample_seed
from cpgg_hf.generation.verification import Verification

__all__ = [
    "Condition",
    "GenerationRequest",
    "RequestError",
    "Verification",
    "exit_on_sigterm",
    "generate_dataset",
    "parse_condition",
    "sample_seed",
]
