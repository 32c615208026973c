"""What a run is made of before its first step: accelerator, batches, and what tells it apart from other runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch.utils.data import DataLoader

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.arguments import OPERATIONAL, TrainingArguments
from cpgg_hf.training.data_order import BatchPlan, DataOrder
from cpgg_hf.training.stage import Batch, Stage
from cpgg_hf.training.streamed_cines import StreamedCines

_SLOW_BF16 = ("DEFAULT", "AVX2")  # what torch calls processors without AVX-512


def make_accelerator(arguments: TrainingArguments) -> tuple[Accelerator, BatchPlan]:
    """The accelerator of a run, and how its global batch is shared out over the processes that were launched.

    Raises:
        TrainingError: a precision that this device has not, or processes that would be left without a sample.
    """
    if arguments.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    try:
        accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            log_with=None if arguments.report_to == "none" else arguments.report_to,
            project_dir=arguments.output_dir,
            # A process may render or validate for long.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))],
        )
    except ValueError as error:  # fp16 on a CPU, bf16 on an old GPU
        raise TrainingError(f"mixed_precision is {arguments.mixed_precision}: {error}") from None
    plan = BatchPlan.of(
        arguments.batch_size,
        arguments.gradient_accumulation_steps,
        arguments.global_batch_size,
        accelerator.num_processes,
    )
    accelerator.gradient_accumulation_steps = plan.accumulation
    capability = torch.backends.cpu.get_cpu_capability()
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16" and capability in _SLOW_BF16:
        accelerator.print(
            f"mixed_precision is bf16, which this processor ({capability}) emulates some 20 times slower than "
            "float32: give --mixed_precision no."
        )
    return accelerator, plan


def checkpoint_activations(network: Any) -> None:
    """Let the network compute its activations again in the backward pass.

    Raises:
        TrainingError: it cannot.
    """
    if hasattr(network, "gradient_checkpointing_enable"):  # transformers
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    elif getattr(network, "_supports_gradient_checkpointing", False):  # diffusers
        network.enable_gradient_checkpointing()
    else:
        raise TrainingError(f"{type(network).__name__} is too small for gradient_checkpointing; leave the flag out.")


def load_batches(data: Any, order: DataOrder, arguments: TrainingArguments, device: torch.device) -> Iterator[Batch]:
    """This process's micro-batches from `order.first_step` on, for ever, read ahead where there are workers."""
    if isinstance(data, StreamedCines):
        return data.training_batches(order.plan, order.seed, order.process_index, order.first_step)
    # The loader's own generator: making its iterator must not advance torch's.
    return iter(
        DataLoader(
            data,
            sampler=order,
            batch_size=None,
            num_workers=arguments.num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),
        )
    )


def identify(stage: Stage, plan: BatchPlan, data: Any, data_fingerprint: str) -> dict[str, Any]:
    """What must be equal for a checkpoint to be resumed.

    How the global batch is cut may change, if neither samples that influence each other nor the shares of a stream
    depend on it; the run then goes on with the same samples and noise, and sums rounded in another order.
    """
    settings = {key: value for key, value in asdict(stage.arguments).items() if key not in OPERATIONAL}
    identity = {
        "stage": stage.name,
        "data_fingerprint": data_fingerprint,
        "global_batch_size": plan.global_batch_size,
        "arguments": settings,
    }
    if stage.mixes_samples or isinstance(data, StreamedCines):
        identity |= {"num_processes": plan.num_processes, "micro_batches": plan.accumulation}
    return identity
