"""Prepares a run: its accelerator, its batches, and the identity by which a checkpoint is recognised."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import DataLoader

from cpgg_hf.errors import CPGGError, TrainingError, brief
from cpgg_hf.training.arguments import Precision, TrainingArguments, compared_fields
from cpgg_hf.training.cine_batches import StreamedCines
from cpgg_hf.training.data_order import BatchPlan, DataOrder
from cpgg_hf.training.stage import Batch, Stage

CHECKPOINT_FORMAT = 2  # 2: the seeds of a step are those of `derive_seed`
_SLOW_BF16 = ("DEFAULT", "AVX2")  # what torch calls processors without AVX-512


def make_accelerator(arguments: TrainingArguments) -> tuple[Accelerator, BatchPlan]:
    """The accelerator of a run, and how its global batch is divided among the launched processes.

    `mixed_precision` of the arguments becomes the one that is used.

    Raises:
        TrainingError: the device lacks this precision, torch has no such compiler, or a process would have no sample.
    """
    if arguments.torch_compile_backend is not None:
        backends = torch.compiler.list_backends(exclude_tags=())
        if arguments.torch_compile_backend not in backends:
            raise TrainingError(
                f"torch_compile_backend is {arguments.torch_compile_backend!r}; expected one of {', '.join(backends)}."
            )
    if arguments.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    try:
        # None: what `accelerate launch` was told, by a flag or its configuration file.
        accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            log_with=None if arguments.report_to == "none" else arguments.report_to,
            project_dir=arguments.output_dir,
            # A process may render or validate for long.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))],
        )
    except ValueError as error:  # bf16 on an old GPU
        asked = arguments.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION")
        raise TrainingError(
            f"mixed_precision {asked} is not available here ({brief(error)}); use another one."
        ) from None
    precision, device = accelerator.mixed_precision, accelerator.device.type
    if precision not in get_args(Precision):
        valid = ", ".join(get_args(Precision))
        raise TrainingError(f"accelerate was launched with mixed_precision {precision!r}; expected one of {valid}.")
    if precision != "no" and not accelerator.native_amp:  # accelerate would compute in float32, without a word
        raise TrainingError(f"mixed_precision {precision} is not available on this device ({device}); use bf16 or no.")
    arguments.mixed_precision = precision  # a resumed run is compared with what was used
    plan = BatchPlan.of(arguments, accelerator.num_processes)
    accelerator.gradient_accumulation_steps = plan.accumulation
    capability = torch.backends.cpu.get_cpu_capability()
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16" and capability in _SLOW_BF16:
        accelerator.print(
            f"bf16 is emulated on this processor ({capability}) and about 20 times slower than float32; use "
            "--mixed_precision no."
        )
    return accelerator, plan


def checkpoint_activations(network: Any) -> None:
    """Let the network recompute its activations in the backward pass.

    Raises:
        TrainingError: the network does not support it.
    """
    if hasattr(network, "gradient_checkpointing_enable"):  # transformers
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    elif getattr(network, "_supports_gradient_checkpointing", False):  # diffusers
        network.enable_gradient_checkpointing()
    else:
        raise TrainingError(f"{type(network).__name__} does not support gradient_checkpointing; leave it out.")


def build_network(stage: Stage) -> Any:
    """The network of a stage.

    Raises:
        TrainingError: its constructor refuses the section `model:`, or gets a width of 0 from it.
    """
    try:
        network = stage.build()
        if empty := [name for name, weight in network.named_parameters() if weight.numel() == 0]:
            raise ValueError(f"{empty[0]} would have no elements; every width must be at least 1")
        return network
    except CPGGError:
        raise
    except (TypeError, ValueError, ArithmeticError, RuntimeError, StrictDataclassError) as error:
        if not stage.arguments.model:
            raise
        given = ", ".join(f"{key}={value!r}" for key, value in stage.arguments.model.items())
        raise TrainingError(f"the network cannot be built with model: {brief(given)} ({brief(error)}).") from error


def load_batches(data: Any, order: DataOrder, arguments: TrainingArguments, device: torch.device) -> Iterator[Batch]:
    """An endless iterator over this process's micro-batches from `order.first_step` on; workers read ahead."""
    if isinstance(data, StreamedCines):
        return data.training_batches(order.plan, order.seed, order.process_index, order.first_step)
    options: dict[str, Any] = {"num_workers": arguments.num_workers, "pin_memory": device.type == "cuda"}
    # The loader's own generator: making its iterator must not advance torch's.
    return iter(DataLoader(data, sampler=order, batch_size=None, generator=torch.Generator(), **options))


def identify(stage: Stage, plan: BatchPlan, data: Any, data_fingerprint: str) -> dict[str, Any]:
    """The properties of a run that must be equal for a checkpoint to be resumed.

    The split of the global batch may change, unless samples of a micro-batch influence each other or the data is a
    stream; the run then continues with the same samples and noise, and sums rounded in another order.
    """
    settings = asdict(stage.arguments)
    identity = {
        "format": CHECKPOINT_FORMAT,
        "stage": stage.name,
        "data_policy": stage.data_policy(),
        "data_fingerprint": data_fingerprint,
        "global_batch_size": plan.global_batch_size,
        "arguments": {entry.name: settings[entry.name] for entry in compared_fields(type(stage.arguments))},
    }
    if stage.mixes_samples or isinstance(data, StreamedCines):
        identity |= {"num_processes": plan.num_processes, "micro_batches": plan.accumulation}
    return identity


def record_policy(network: Any, policy: str) -> None:
    """Write a policy into the configuration that the network is saved with."""
    if hasattr(network, "register_to_config"):  # diffusers
        network.register_to_config(data_policy=policy)
    else:  # transformers
        network.config.data_policy = policy
