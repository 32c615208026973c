"""Settings of a run: one dataclass per stage, whose fields state all that the loop must know about them.

The section `model:` of the configuration (flags `--model.key value`) goes to the network's configuration unchanged.
"""

import difflib
import math
import sys
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cpgg_hf.data_policy import DATA_POLICIES
from cpgg_hf.errors import TrainingError, brief

_TYPES = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text (in quotes if it looks like a number)",
    list: "a list", dict: "`key: value` lines",
}  # fmt: skip
Precision = Literal["no", "fp16", "bf16"]
_POLYNOMIAL_END = 1e-7  # as diffusers sets it
_MANY = 2**20  # samples or micro-batches of a step; far more than any recipe has
_RANGES = {"minimum": "at least", "above": "above", "maximum": "at most", "below": "below"}


def argument(default: Any = MISSING, help: str = "", **metadata: Any) -> Any:
    """A field of a stage's arguments.

    Args:
        default: MISSING for a required argument.
        help: text of `--help`.
        metadata: properties that the loop must know.
            `source`: where the network's data policy comes from. "model" or "dataset": a folder or Hub repository that
            states its own; "phantoms": a folder of phantoms that the stage renders itself; "none": the text does not
            name anything that the network learns from. Free text without a `source` makes the network restricted.
            `public`: values of a "model" source that are names of public weights.
            `operational`: see `operational`.
            `minimum`, `maximum`, `above`, `below`: range of a number, or of each number in a list.
            `multiple`: what a whole number must be a multiple of.
    """
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


# An argument that a resumed run may change: where things lie (their content is compared by fingerprint), how long and
# how often, how a global batch is divided and computed.
operational = partial(argument, operational=True)


@dataclass(kw_only=True)
class TrainingArguments:
    """The arguments of every stage.

    `batch_size` counts samples per process and micro-batch, so one optimizer step sees
    `batch_size * gradient_accumulation_steps * processes` samples. With `global_batch_size` a step sees that many on
    any number of processes, in as few micro-batches as `batch_size` allows: one recipe for one GPU and for eight.

    Raises:
        TrainingError: a value has the wrong type or is out of range, or arguments contradict each other.
    """

    output_dir: str = operational(help="Folder of the run: checkpoints, log.jsonl, trained network.", source="none")
    data: str = operational(help="Folder of a cine data set, as written by `cpgg prepare`.", source="dataset")
    seed: int = argument(0, "Determines initial weights, data order, noise and masks.", minimum=0, maximum=2**32 - 1)
    max_train_steps: int | None = operational(
        None, "Optimizer steps; overrides num_train_epochs.", minimum=1, maximum=10**9
    )
    num_train_epochs: float | None = operational(None, "Passes over the training split.", above=0, maximum=1e6)
    batch_size: int = operational(8, "Samples per process and micro-batch.", minimum=1, maximum=_MANY)
    gradient_accumulation_steps: int = operational(1, "Micro-batches per optimizer step.", minimum=1, maximum=_MANY)
    global_batch_size: int | None = operational(None, "Samples per step over all processes.", minimum=1, maximum=_MANY)
    learning_rate: float = argument(1e-4, "Peak learning rate of AdamW.", minimum=0, maximum=1)
    lr_scheduler: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
    ] = argument("cosine", "Schedule of the learning rate, as named by diffusers.")
    lr_warmup_steps: int = argument(0, "Optimizer steps over which the rate rises.", minimum=0, maximum=10**9)
    lr_warmup_epochs: float | None = argument(
        None, "Warm-up in epochs; overrides lr_warmup_steps.", minimum=0, maximum=1e6
    )
    adam_betas: list[float] = argument([0.9, 0.95], "The two betas of AdamW.", minimum=0, below=1)  # noqa: RUF009
    weight_decay: float = argument(0.0, "AdamW's weight decay, of matrices and kernels.", minimum=0, maximum=1)
    max_grad_norm: float | None = argument(None, "Gradients are clipped to this norm.", above=0, maximum=1e6)
    use_ema: bool = argument(True, "Keep an exponential moving average of the weights.")
    ema_decay: float = argument(0.9999, "Its decay, warmed up as (1 + step) / (10 + step).", minimum=0, maximum=1)
    mixed_precision: Precision | None = argument(  # noqa: RUF009
        None, "Autocast precision; default: that of `accelerate launch`, else no."
    )
    allow_tf32: bool = operational(False, "TF32 for float32 computations on an NVIDIA GPU.")
    gradient_checkpointing: bool = operational(False, "Recompute activations: less memory, more time.")
    torch_compile_backend: str | None = operational(None, "Backend of torch.compile, such as inductor.", source="none")
    num_workers: int = operational(0, "Loader processes; 0 or 1 is best on a CPU.", minimum=0, maximum=256)
    resume_from_checkpoint: str | None = operational(None, "'latest', or a checkpoint's folder.", source="none")
    checkpointing_steps: int = operational(500, "Steps between checkpoints.", minimum=1)
    checkpoints_total_limit: int | None = operational(3, "Number of checkpoints to keep, the latest.", minimum=1)
    validation_steps: int = operational(500, "Steps between validations.", minimum=1)
    validation_samples: int = operational(64, "Held-out samples per validation.", minimum=1)
    logging_steps: int = operational(50, "Steps between lines of log.jsonl.", minimum=1)
    max_seconds: float | None = operational(
        None, "Save a checkpoint and stop after this time.", minimum=0, maximum=1e9
    )
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = operational("none", "Tracker besides log.jsonl.")
    push_to_hub: bool = operational(False, "Push the network of each checkpoint in the background.")
    hub_model_id: str | None = operational(None, "owner/name; default: the name of the run folder.", source="none")
    hub_private: bool = operational(True, "Whether a newly created repository is private.")
    hub_override_policy: str | None = operational(
        None, "Reason to push a restricted network; it is logged (private repositories only).", source="none"
    )
    source_policies: dict[str, str] = argument(  # noqa: RUF009
        {}, "Data policies of sources that state none, as init_from_2d=public; they are logged.", source="none"
    )
    model: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for entry in fields(self):
            if entry.init:
                value = checked(entry.name, kinds[entry.name], getattr(self, entry.name))
                _check_range(entry, value)
                setattr(self, entry.name, value)
        if self.max_train_steps is None and self.num_train_epochs is None:
            raise TrainingError("neither max_train_steps nor num_train_epochs is given; set one of them.")
        if self.global_batch_size is not None and self.gradient_accumulation_steps != 1:
            raise TrainingError(
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps}) follows from global_batch_size "
                f"({self.global_batch_size}) and batch_size; give only one of the two."
            )
        if self.lr_scheduler == "polynomial" and self.learning_rate <= _POLYNOMIAL_END:
            raise TrainingError(
                f"learning_rate is {self.learning_rate}, but the polynomial schedule ends at {_POLYNOMIAL_END}; "
                "give a larger one, or another lr_scheduler."
            )
        if len(self.adam_betas) != 2:
            raise TrainingError(f"adam_betas takes two numbers, given {self.adam_betas}.")
        sources = [entry.name for entry in fields(self) if entry.metadata.get("source") in ("model", "dataset")]
        check_keys(self.source_policies, sources, "source_policies")
        for name, policy in self.source_policies.items():
            if policy not in DATA_POLICIES:
                expected = ", ".join(DATA_POLICIES)
                raise TrainingError(f"source_policies of {name} is {policy!r}; expected one of {expected}.")


def check_keys(given: Iterable[str], valid: Iterable[str], where: str) -> None:
    """Raises `TrainingError` naming the first key of `given` that is not in `valid`, and the nearest that is."""
    valid = sorted(valid)
    for key in map(str, given):
        if key not in valid:
            nearest = [f"; the nearest is {name!r}" for name in difflib.get_close_matches(key, valid, n=1, cutoff=0.0)]
            raise TrainingError(f"{where} has no key {key!r}{''.join(nearest)} (all: {', '.join(valid) or 'none'}).")


def compared_fields(arguments_class: type[TrainingArguments]) -> list[Field]:
    """The arguments that a resumed run must not change."""
    return [entry for entry in fields(arguments_class) if not entry.metadata.get("operational")]


def is_required(entry: Field) -> bool:
    """Whether an argument has no default."""
    return entry.default is MISSING and entry.default_factory is MISSING


def default_of(entry: Field) -> Any:
    """The default of an argument that has one."""
    return entry.default_factory() if callable(entry.default_factory) else entry.default


def without_none(kind: Any) -> Any:
    """`str | None` -> `str`."""
    return next(part for part in get_args(kind) if part is not NoneType) if NoneType in get_args(kind) else kind


def is_free_text(kind: Any) -> bool:
    """Whether values of a type are text without a fixed list of choices, and so may name a folder or repository."""
    kind = without_none(kind)
    return get_origin(kind) is not Literal and any(part in (str, Any, Path) for part in (kind, *get_args(kind)))


def checked(name: str, kind: Any, value: Any) -> Any:
    """A value of the declared type: whole numbers serve as fractions, and YAML's False as "no".

    Raises:
        TrainingError: it has another type.
    """
    if value is None and NoneType in get_args(kind):
        return None
    kind = without_none(kind)
    outer, inner = get_origin(kind), get_args(kind)
    if outer is Literal:
        value = "no" if value is False and "no" in inner else value
        if value not in inner:
            raise TrainingError(f"{name} is {value!r}; expected one of {', '.join(inner)}.")
        return value
    if outer is list and isinstance(value, list | tuple):
        return [checked(name, inner[0], part) for part in value]
    if outer is dict and isinstance(value, dict):
        return {str(key): part if inner[1] is Any else checked(name, inner[1], part) for key, part in value.items()}
    if type(value) is int and abs(value) > sys.float_info.max:
        raise TrainingError(f"{name} has {len(str(abs(value)))} digits; give a smaller number.")
    if kind is float and type(value) is int:
        return float(value)
    if value == "":
        raise TrainingError(f"{name} is empty; give a value or leave it out.")
    if type(value) is not (outer or kind):
        raise TrainingError(f"{name} is {brief(repr(value))}; expected {_TYPES[outer or kind]}.")
    return value


def _check_range(entry: Field, value: Any) -> None:
    limits = entry.metadata
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float | int) and not (
            math.isfinite(number)
            and limits.get("minimum", -math.inf) <= number <= limits.get("maximum", math.inf)
            and limits.get("above", -math.inf) < number < limits.get("below", math.inf)
        ):
            words = [f"{word} {limits[name]}" for name, word in _RANGES.items() if name in limits]
            raise TrainingError(f"{entry.name} must be {' and '.join(words) or 'finite'}, given {number}.")
        if number is not None and (multiple := limits.get("multiple")) and number % multiple:
            raise TrainingError(f"{entry.name} must be a multiple of {multiple}, given {number}.")
