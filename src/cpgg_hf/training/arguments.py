"""Settings of a run: one dataclass per stage, filled from a YAML file and from flags that override it.

The section `model:` of the file (flags `--model.key value`) goes to the network's configuration unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from cpgg_hf.data_policy import DATA_POLICIES
from cpgg_hf.errors import TrainingError
from cpgg_hf.training.argument_fields import (
    argument,
    check_keys,
    check_range,
    checked,
    default_of,
    is_operational,
    is_required,
)


@dataclass(kw_only=True)
class TrainingArguments:
    """The arguments of every stage.

    `batch_size` counts samples per process and micro-batch, so one optimizer step sees
    `batch_size * gradient_accumulation_steps * processes` samples. With `global_batch_size` a step sees that many on
    any number of processes, in as few micro-batches as `batch_size` allows: one recipe for one GPU and for eight.

    Raises:
        TrainingError: a value has the wrong type or is out of range, or arguments contradict each other.
    """

    output_dir: str = argument(
        help="Folder of the run: checkpoints, log.jsonl, the trained network.", source="none", operational=True
    )
    data: str = argument(
        help="Folder of a cine data set, as written by `cpgg prepare`.", source="dataset", operational=True
    )
    seed: int = argument(0, "Determines initial weights, data order, noise and masks.", minimum=0)
    max_train_steps: int | None = argument(
        None, "Optimizer steps; overrides num_train_epochs.", operational=True, minimum=1
    )
    num_train_epochs: float | None = argument(None, "Passes over the training split.", operational=True, above=0)
    batch_size: int = argument(8, "Samples per process and micro-batch.", operational=True, minimum=1)
    gradient_accumulation_steps: int = argument(1, "Micro-batches per optimizer step.", operational=True, minimum=1)
    global_batch_size: int | None = argument(
        None,
        "Samples per step over all processes; replaces gradient_accumulation_steps.",
        operational=True,
        minimum=1,
    )
    learning_rate: float = argument(1e-4, "Peak learning rate of AdamW.", minimum=0)
    lr_scheduler: str = argument("cosine", "A name of diffusers.optimization.get_scheduler.", source="none")
    lr_warmup_steps: int = argument(0, "Optimizer steps over which the rate rises.", minimum=0)
    lr_warmup_epochs: float | None = argument(
        None, "Epochs over which the rate rises; overrides lr_warmup_steps.", minimum=0
    )
    adam_betas: list[float] = argument([0.9, 0.95], "The two betas of AdamW.", minimum=0, maximum=1)  # noqa: RUF009
    weight_decay: float = argument(0.0, "AdamW's weight decay, on matrices and kernels only.", minimum=0)
    max_grad_norm: float | None = argument(None, "Gradients are clipped to this norm.", above=0)
    use_ema: bool = argument(True, "Keep an exponential moving average of the weights.")
    ema_decay: float = argument(
        0.9999, "Decay of the moving average, warmed up as (1 + step) / (10 + step).", minimum=0, maximum=1
    )
    mixed_precision: Literal["no", "fp16", "bf16"] = argument("no", "Autocast precision.")
    allow_tf32: bool = argument(False, "TF32 for float32 computations on an NVIDIA GPU.", operational=True)
    gradient_checkpointing: bool = argument(
        False, "Recompute activations in the backward pass: less memory, more time.", operational=True
    )
    torch_compile_backend: str | None = argument(
        None,
        "Compile the network with this backend of torch.compile, such as inductor.",
        source="none",
        operational=True,
    )
    num_workers: int = argument(0, "Loader processes; 0 or 1 is best on a CPU.", operational=True, minimum=0)
    resume_from_checkpoint: str | None = argument(
        None, "'latest' or the folder of a checkpoint of this run.", source="none", operational=True
    )
    checkpointing_steps: int = argument(500, "Steps between checkpoints.", operational=True, minimum=1)
    checkpoints_total_limit: int | None = argument(
        3, "Number of checkpoints to keep; older ones are removed.", operational=True, minimum=1
    )
    validation_steps: int = argument(500, "Steps between validations.", operational=True, minimum=1)
    validation_samples: int = argument(64, "Held-out samples per validation.", operational=True, minimum=1)
    logging_steps: int = argument(50, "Steps between lines of log.jsonl.", operational=True, minimum=1)
    max_seconds: float | None = argument(
        None, "Save a checkpoint and stop after this time; resume later with 'latest'.", operational=True, minimum=0
    )
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = argument(
        "none", "Tracker in addition to log.jsonl.", operational=True
    )
    push_to_hub: bool = argument(False, "Push the network of each checkpoint in the background.", operational=True)
    hub_model_id: str | None = argument(
        None, "owner/name; default: the name of the run folder.", source="none", operational=True
    )
    hub_private: bool = argument(True, "Whether a newly created repository is private.", operational=True)
    hub_override_policy: str | None = argument(
        None,
        "Reason to push a restricted network; it is logged (private repositories only).",
        source="none",
        operational=True,
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
                check_range(entry, value)
                setattr(self, entry.name, value)
        if self.max_train_steps is None and self.num_train_epochs is None:
            raise TrainingError("neither max_train_steps nor num_train_epochs is given; set one of them.")
        if self.global_batch_size is not None and self.gradient_accumulation_steps != 1:
            raise TrainingError(
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps}) follows from global_batch_size "
                f"({self.global_batch_size}) and batch_size; give only one of the two."
            )
        if len(self.adam_betas) != 2:
            raise TrainingError(f"adam_betas takes two numbers, given {self.adam_betas}.")
        sources = [entry.name for entry in fields(self) if entry.metadata.get("source") in ("model", "dataset")]
        check_keys(self.source_policies, sources, "source_policies")
        for name, policy in self.source_policies.items():
            if policy not in DATA_POLICIES:
                raise TrainingError(
                    f"source_policies of {name} is {policy!r}; expected one of {', '.join(DATA_POLICIES)}."
                )


def default_settings(arguments_class: type[TrainingArguments]) -> dict[str, Any]:
    """The settings that a checkpoint is compared by and that have a default."""
    compared = [entry for entry in fields(arguments_class) if not is_operational(entry) and not is_required(entry)]
    return {entry.name: default_of(entry) for entry in compared}
