"""Generated cines as files and data sets: any number of workers, resumable after a kill, always the same bytes."""

from cpgg_hf.generation.conditions import Condition, parse_condition
from cpgg_hf.generation.outputs import format_names
from cpgg_hf.generation.request import GenerationRequest, sample_seed
from cpgg_hf.generation.run import check_new, exit_on_sigterm, generate_dataset
from cpgg_hf.generation.verification import Verification

__all__ = [
    "Condition",
    "GenerationRequest",
    "Verification",
    "check_new",
    "exit_on_sigterm",
    "format_names",
    "generate_dataset",
    "parse_condition",
    "sample_seed",
]
