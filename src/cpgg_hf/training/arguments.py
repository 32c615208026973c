"""Settings of a run: a dataclass a stage, filled from a YAML file and from flags that override it.

A line `key: value` of the YAML file is the flag `--key value`; what stands under `model:` is the flag
`--model.key value` and reaches the network's configuration as it is.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from cpgg_hf.errors import TrainingError

MODEL_FLAG = "--model."


@dataclass
class TrainingArguments:
    """What every stage's run is told; the flags of the scripts.

    `batch_size` counts samples per process and micro-batch, so one optimizer step sees
    `batch_size * gradient_accumulation_steps * processes` samples. With `global_batch_size` a step sees that many on
    any number of processes, in as few micro-batches as `batch_size` allows: one recipe for one GPU and for eight.
    """

    output_dir: str = field(metadata={"help": "Folder of the run: checkpoints, log.jsonl, the trained network."})
    data: str = field(metadata={"help": "Folder of a cine data set, as written by `cpgg prepare`."})
    seed: int = field(default=0, metadata={"help": "Initial weights, data order, noise and masks follow from it."})
    max_train_steps: int | None = field(default=None, metadata={"help": "Optimizer steps; wins over epochs."})
    num_train_epochs: float | None = field(default=None, metadata={"help": "Passes over the training split."})
    batch_size: int = field(default=8, metadata={"help": "Samples per process and micro-batch."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Micro-batches per optimizer step."})
    global_batch_size: int | None = field(
        default=None, metadata={"help": "Samples of a step on all processes; replaces gradient_accumulation_steps."}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of AdamW."})
    lr_scheduler: str = field(default="cosine", metadata={"help": "A name of diffusers.optimization.get_scheduler."})
    lr_warmup_steps: int = field(default=0, metadata={"help": "Optimizer steps over which the rate rises."})
    lr_warmup_epochs: float | None = field(default=None, metadata={"help": "The same in epochs; wins over steps."})
    adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.95], metadata={"help": "AdamW's two betas."})
    weight_decay: float = field(default=0.0, metadata={"help": "AdamW's, on matrices and kernels only."})
    max_grad_norm: float | None = field(default=None, metadata={"help": "Gradients are clipped to this norm."})
    use_ema: bool = field(default=True, metadata={"help": "Keep an exponential moving average of the weights."})
    ema_decay: float = field(default=0.9999, metadata={"help": "Its decay, warmed up as (1 + step) / (10 + step)."})
    mixed_precision: Literal["no", "fp16", "bf16"] = field(default="no", metadata={"help": "Autocast precision."})
    allow_tf32: bool = field(default=False, metadata={"help": "TF32 for what stays in float32 on an NVIDIA GPU."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations again in the backward pass: less memory, more time."}
    )
    torch_compile_backend: str | None = field(
        default=None, metadata={"help": "Compile the network with this backend of torch.compile, such as inductor."}
    )
    num_workers: int = field(default=0, metadata={"help": "Loader processes; 0 or 1 is best on a CPU."})
    resume_from_checkpoint: str | None = field(default=None, metadata={"help": "'latest' or a checkpoint's folder."})
    checkpointing_steps: int = field(default=500, metadata={"help": "Steps between checkpoints."})
    checkpoints_total_limit: int | None = field(default=3, metadata={"help": "The oldest beyond it are removed."})
    validation_steps: int = field(default=500, metadata={"help": "Steps between validations."})
    validation_samples: int = field(default=64, metadata={"help": "Held-out samples a validation looks at."})
    logging_steps: int = field(default=50, metadata={"help": "Steps between lines of log.jsonl."})
    max_seconds: float | None = field(
        default=None, metadata={"help": "Save a checkpoint and stop after this time; resume later with 'latest'."}
    )
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = field(
        default="none", metadata={"help": "Tracker beside log.jsonl."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Push the network of each checkpoint, in background."})
    hub_model_id: str | None = field(default=None, metadata={"help": "owner/name; the run folder's name if unset."})
    hub_private: bool = field(default=True, metadata={"help": "Whether a repository that is made is private."})
    hub_override_policy: str | None = field(
        default=None, metadata={"help": "The reason why a restricted network may be pushed; it is logged."}
    )
    model: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_train_steps is None and self.num_train_epochs is None:
            raise TrainingError("neither max_train_steps nor num_train_epochs is given; set one of them.")
        positive = ("batch_size", "gradient_accumulation_steps", "checkpointing_steps", "validation_steps")
        for name in (*positive, "logging_steps", "validation_samples"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, given {getattr(self, name)}.")
        if self.global_batch_size is not None:
            if self.global_batch_size < 1:
                raise TrainingError(f"global_batch_size must be at least 1, given {self.global_batch_size}.")
            if self.gradient_accumulation_steps != 1:
                raise TrainingError(
                    f"gradient_accumulation_steps is {self.gradient_accumulation_steps}, but global_batch_size "
                    f"({self.global_batch_size}) and batch_size decide it; give one of the two."
                )
        if len(self.adam_betas) != 2:
            raise TrainingError(f"adam_betas takes two numbers, given {self.adam_betas}.")


# May differ between the run that wrote a checkpoint and the one that resumes it: where things lie (what lies there is
# compared by fingerprint), how long and how often, how a global batch is cut (its size is compared) and computed.
# Everything else must be the same.
OPERATIONAL = frozenset(
    {
        "output_dir", "data", "vae", "phenotype_vae", "latent_cache", "max_train_steps", "num_train_epochs",
        "batch_size", "gradient_accumulation_steps", "global_batch_size", "allow_tf32", "gradient_checkpointing",
        "torch_compile_backend", "num_workers", "resume_from_checkpoint", "checkpointing_steps",
        "checkpoints_total_limit", "validation_steps", "validation_samples", "logging_steps", "max_seconds",
        "report_to", "generated_cines", "generated_inference_steps", "segmenter", "streaming",
        "push_to_hub", "hub_model_id", "hub_private", "hub_override_policy",
    }
)  # fmt: skip

Arguments = TypeVar("Arguments", bound=TrainingArguments)


def check_keys(given: Iterable[str], valid: Iterable[str], where: str) -> None:
    """Raises `TrainingError` naming the first key of `given` that is not in `valid`, and the nearest that is."""
    valid = sorted(valid)
    for key in given:
        if key not in valid:
            nearest = difflib.get_close_matches(key, valid, n=1, cutoff=0.0)
            raise TrainingError(
                f"{where} has no key {key!r}; the nearest is {nearest[0]!r} (all: {', '.join(valid)})."
            )


def default_settings(arguments_class: type[TrainingArguments]) -> dict[str, Any]:
    """The settings that a checkpoint is compared by and that have a default."""
    return {
        entry.name: entry.default
        for entry in fields(arguments_class)
        if entry.default is not MISSING and entry.name not in OPERATIONAL
    }


def parse_arguments(arguments_class: type[Arguments], argv: Sequence[str] | None = None) -> Arguments:
    """A stage's arguments from `--config FILE.yaml` and flags; flags win.

    Raises:
        TrainingError: an unknown key (the nearest valid one is named), an unreadable file.
        SystemExit: a flag's value of the wrong type, or `--help` (argparse).
    """
    from transformers import HfArgumentParser

    argv = list(sys.argv[1:] if argv is None else argv)
    config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config_parser.add_argument("--config")
    config, flags = config_parser.parse_known_args(argv)
    settings = {} if config.config is None else read_settings(Path(config.config))
    names = [entry.name for entry in fields(arguments_class)]
    check_keys(settings, names, f"{config.config}")

    model = dict(settings.pop("model", None) or {})
    flags, model_flags = _split_model_flags(flags)
    parser = HfArgumentParser(arguments_class, allow_abbrev=False)  # type: ignore[arg-type]
    arguments, unknown = parser.parse_args_into_dataclasses(
        args=[*_as_flags(settings), *flags], look_for_args_file=False, return_remaining_strings=True
    )
    if unknown:
        if unknown[0].startswith("--"):
            check_keys([unknown[0].removeprefix("--").replace("-", "_")], names, "the command line")
        raise TrainingError(f"{unknown[0]!r} on the command line belongs to no flag; write --key value.")
    arguments.model = {**model, **model_flags}
    return arguments


def read_settings(path: Path) -> dict[str, Any]:
    """A YAML file of settings as a dict; `1e-4` is a number (YAML 1.1 reads it as text)."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(f"the configuration {path} cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise TrainingError(
            f"the configuration {path} must hold `key: value` lines, found a {type(settings).__name__}."
        )
    return settings


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _as_flags(settings: dict[str, Any]) -> list[str]:
    flags = []
    for key, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            flags += [f"--{key}", *map(str, values)]
    return flags


def _split_model_flags(flags: list[str]) -> tuple[list[str], dict[str, Any]]:
    others: list[str] = []
    model: dict[str, Any] = {}
    remaining = iter(flags)
    for flag in remaining:
        if not flag.startswith(MODEL_FLAG):
            others.append(flag)
            continue
        key, _, value = flag.removeprefix(MODEL_FLAG).partition("=")
        model[key] = yaml.load(value or next(remaining, ""), Loader=_Loader)
    return others, model
