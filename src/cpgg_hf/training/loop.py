"""The training loop of every stage, on accelerate: one process or many, one CPU or a node of GPUs.

    accelerate launch training_scripts/train_vae.py --config training_scripts/configs/phantom_small_vae.yaml
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/train_vae.py --config ...  # two CPU processes

A run folder holds `log.jsonl`, `checkpoint-<step>/` (resume with `--resume_from_checkpoint latest`; what was saved is
restored exactly: weights, EMA, optimizer, scheduler, RNG, position in the data), and when training has ended
`model/` (the trained weights) and `ema/` (their moving average: the better one to use), both for `from_pretrained`.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, send_to_device, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar

from cpgg_hf.checkpoint_files import CheckpointError
from cpgg_hf.data.errors import PreparationError
from cpgg_hf.training.arguments import OPERATIONAL, TrainingArguments, default_settings, parse_arguments
from cpgg_hf.training.checkpoints import RunState, find_checkpoint, load_checkpoint, replace_folder, save_checkpoint
from cpgg_hf.training.data_order import DataOrder
from cpgg_hf.training.errors import TrainingError
from cpgg_hf.training.log import RunLog
from cpgg_hf.training.stage import LossModule, Stage


def launch(stage_class: type[Stage], argv: Sequence[str] | None = None) -> int:
    """A training script: reads the arguments, trains, and turns a refusal into one sentence and exit status 1."""
    disable_progress_bar()  # transformers would draw one for every checkpoint
    try:
        train(stage_class(parse_arguments(stage_class.arguments_class, argv)))
    except (TrainingError, PreparationError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def train(stage: Stage) -> RunState:
    """Train a stage until its last step, `max_seconds` or SIGTERM, whichever comes first; returns where it stands.

    Raises:
        TrainingError: the checkpoint to resume belongs to another run; the loss or a gradient is not finite.
    """
    with StopRequest(stage.arguments.max_seconds) as stop:
        return _train(stage, stop)


def _train(stage: Stage, stop: StopRequest) -> RunState:
    arguments = stage.arguments
    output_dir = Path(arguments.output_dir)
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_dir=output_dir,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))],  # the main process may encode for long
    )
    checkpoint = find_checkpoint(output_dir, arguments.resume_from_checkpoint)
    output_dir.mkdir(parents=True, exist_ok=True)

    data, data_fingerprint = stage.load_data(accelerator)
    set_seed(arguments.seed)
    network = stage.build()
    set_seed(arguments.seed + 1, device_specific=True)  # other noise and masks on each process

    order = _data_order(arguments, accelerator, len(data))  # type: ignore[arg-type]
    num_steps = arguments.max_train_steps or round((arguments.num_train_epochs or 0) * order.steps_per_epoch)
    optimizer = _adamw(network, arguments)
    scheduler = get_scheduler(
        arguments.lr_scheduler,
        optimizer,
        num_warmup_steps=_warmup_steps(arguments, order),
        num_training_steps=num_steps,
    )
    module, optimizer = accelerator.prepare(LossModule(network, stage).train(), optimizer)
    ema = EMAModel(network.parameters(), decay=arguments.ema_decay, foreach=True) if arguments.use_ema else None
    accelerator.register_for_checkpointing(*[part for part in (scheduler, ema) if part is not None])

    identity = _identity(stage, accelerator, data_fingerprint)
    state = RunState()
    if checkpoint is not None:
        state = load_checkpoint(accelerator, checkpoint, identity, default_settings(type(arguments)))
    if ema is not None:
        ema.to(accelerator.device)
    order.first_step = state.step
    # The loader's own generator: making its iterator must not advance the one that noise and masks come from.
    loader = DataLoader(
        data, sampler=order, batch_size=None, num_workers=arguments.num_workers, generator=torch.Generator()
    )  # fmt: skip
    batches = iter(loader)
    is_main = accelerator.is_main_process
    log = RunLog(output_dir / "log.jsonl", state.step, is_main)
    if arguments.report_to != "none":
        accelerator.init_trackers(stage.name)
    _announce(accelerator, network, state, num_steps, order, checkpoint)

    def save() -> None:
        def save_ema(folder: Path) -> None:
            if ema is not None:
                with _ema_weights(ema, network):
                    network.save_pretrained(folder / "ema")

        save_checkpoint(accelerator, output_dir, state, identity, arguments.checkpoints_total_limit, save_ema)

    def record(**values: Any) -> None:
        tqdm.write(log.write(**values))
        accelerator.log({key: value for key, value in values.items() if key != "step"}, step=state.step)

    timed_from, timed_step, stopped = time.perf_counter(), state.step, False
    bar = tqdm(initial=state.step, total=num_steps, unit="step", disable=None if is_main else True)
    while state.step < num_steps and not stopped:
        step_started = time.perf_counter()
        for _ in range(arguments.gradient_accumulation_steps):
            batch = send_to_device(next(batches), accelerator.device)
            with accelerator.accumulate(module):
                terms = module(batch)
                values, stopped = _share(accelerator, terms, stop)
                if not all(math.isfinite(value) for value in values.values()):
                    _refuse_batch(accelerator, output_dir, order, state, f"the loss is not finite: {values}")
                accelerator.backward(terms["loss"])
                if accelerator.sync_gradients and arguments.max_grad_norm is not None:
                    values["grad_norm"] = float(
                        accelerator.clip_grad_norm_(module.parameters(), arguments.max_grad_norm)
                    )
                    if accelerator.scaler is None and not math.isfinite(values["grad_norm"]):
                        _refuse_batch(accelerator, output_dir, order, state, "the gradient is not finite")
                optimizer.step()
                optimizer.zero_grad()
            for name, value in values.items():
                state.loss_sums[name] = state.loss_sums.get(name, 0.0) + value
            state.loss_count += 1
        learning_rate = scheduler.get_last_lr()[0]
        scheduler.step()
        if ema is not None:
            ema.step(network.parameters())
        state.step += 1
        state.seconds += time.perf_counter() - step_started
        bar.update()

        last = state.step == num_steps
        if state.step % arguments.logging_steps == 0 or last:
            if is_main:
                elapsed = time.perf_counter() - timed_from
                speed = (state.step - timed_step) * order.global_batch_size / elapsed
                record(
                    step=state.step,
                    epoch=state.step / order.steps_per_epoch,
                    **_means(state, arguments.gradient_accumulation_steps),
                    lr=learning_rate,
                    samples_per_second=speed,
                    seconds=state.seconds,
                )
            state.loss_sums, state.loss_count = {}, 0
            timed_from, timed_step = time.perf_counter(), state.step
        paused_from = time.perf_counter()
        if state.step % arguments.validation_steps == 0 or last:
            if is_main:
                figures = _validate(stage, accelerator, network, ema, output_dir / "validation" / f"{state.step:07d}")
                record(step=state.step, **{f"validation_{name}": value for name, value in figures.items()})
            accelerator.wait_for_everyone()
        if state.step % arguments.checkpointing_steps == 0 or last or stopped:
            save()
        timed_from += time.perf_counter() - paused_from
    bar.close()

    if state.step >= num_steps:
        if is_main:
            _save_networks(stage, network, ema, output_dir)
        accelerator.wait_for_everyone()
    else:
        accelerator.print(
            f"stopped at step {state.step} of {num_steps} ({stop.reason}), checkpoint saved; go on with "
            "--resume_from_checkpoint latest"
        )
    accelerator.end_training()
    return state


class StopRequest:
    """Whether to save and stop: `max_seconds` have passed, or SIGTERM has arrived (a pre-empted node)."""

    def __init__(self, max_seconds: float | None) -> None:
        self.deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
        self.reason = f"max_seconds = {max_seconds}"

    def __enter__(self) -> StopRequest:
        self._previous = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _terminate(self, *_: object) -> None:
        self.deadline, self.reason = 0.0, "SIGTERM"

    def __bool__(self) -> bool:
        return time.monotonic() >= self.deadline


def _data_order(arguments: TrainingArguments, accelerator: Accelerator, num_samples: int) -> DataOrder:
    return DataOrder(
        num_samples,
        arguments.batch_size,
        arguments.gradient_accumulation_steps,
        arguments.seed,
        accelerator.num_processes,
        accelerator.process_index,
    )


def _adamw(network: torch.nn.Module, arguments: TrainingArguments) -> torch.optim.AdamW:
    """Weight decay acts on matrices and kernels, not on biases and norms."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": arguments.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    beta1, beta2 = arguments.adam_betas
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(beta1, beta2), fused=True)


def _warmup_steps(arguments: TrainingArguments, order: DataOrder) -> int:
    if arguments.lr_warmup_epochs is None:
        return arguments.lr_warmup_steps
    return round(arguments.lr_warmup_epochs * order.steps_per_epoch)


def _identity(stage: Stage, accelerator: Accelerator, data_fingerprint: str) -> dict[str, Any]:
    """What must be equal for a checkpoint to be resumed exactly."""
    settings = {key: value for key, value in asdict(stage.arguments).items() if key not in OPERATIONAL}
    return {
        "stage": stage.name,
        "data_fingerprint": data_fingerprint,
        "num_processes": accelerator.num_processes,
        "arguments": settings,
    }


def _share(
    accelerator: Accelerator, terms: dict[str, torch.Tensor], stop: StopRequest
) -> tuple[dict[str, float], bool]:
    """Loss terms averaged over the processes, and whether any of them was asked to stop: one small all-reduce."""
    stopping = terms["loss"].new_tensor(float(bool(stop)))
    own = torch.stack([term.detach().float() for term in (*terms.values(), stopping)])
    *means, stopped = accelerator.reduce(own, reduction="mean").tolist()
    return dict(zip(terms, means, strict=True)), stopped > 0


def _means(state: RunState, accumulation: int) -> dict[str, float]:
    means = {name: total / state.loss_count for name, total in state.loss_sums.items()}
    if "grad_norm" in means:  # once a step, not once a micro-batch
        means["grad_norm"] *= accumulation
    return means


def _refuse_batch(accelerator: Accelerator, output_dir: Path, order: DataOrder, state: RunState, what: str) -> None:
    path = output_dir / "not_finite.json"
    samples = order.global_batch(state.step).ravel().tolist()
    if accelerator.is_main_process:
        path.write_text(json.dumps({"step": state.step, "what": what, "samples": samples}))
    shown = ", ".join(map(str, samples[:16])) + (", ..." if len(samples) > 16 else "")
    raise TrainingError(
        f"step {state.step}: {what}; samples of the training split: {shown} (all in {path}). Weights were not changed "
        "by this batch and earlier checkpoints are intact: look at these samples, or lower the learning rate."
    )


def _announce(
    accelerator: Accelerator, network: Any, state: RunState, num_steps: int, order: DataOrder, checkpoint: Path | None
) -> None:
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    start = f"resumed from {checkpoint}" if checkpoint else "from the beginning"
    accelerator.print(
        f"{type(network).__name__}: {num_parameters / 1e6:.2f} M parameters, {order.num_samples} samples, "
        f"{accelerator.num_processes} process(es), {order.global_batch_size} samples a step, "
        f"steps {state.step} to {num_steps} ({start})"
    )


@contextmanager
def _ema_weights(ema: EMAModel | None, network: torch.nn.Module) -> Iterator[None]:
    """The network holds the moving average within the block; without EMA, its own weights."""
    if ema is None:
        yield
        return
    parameters = list(network.parameters())
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)


def _validate(
    stage: Stage, accelerator: Accelerator, network: Any, ema: EMAModel | None, folder: Path
) -> dict[str, float]:
    """The stage's figures for the EMA weights; leaves weights, mode and random state as they were."""
    folder.mkdir(parents=True, exist_ok=True)
    network.eval()
    with _ema_weights(ema, network), torch.random.fork_rng(), torch.no_grad(), accelerator.autocast():
        torch.manual_seed(stage.arguments.seed)
        figures = stage.validate(network, folder)
    network.train()
    return figures


def _save_networks(stage: Stage, network: Any, ema: EMAModel | None, output_dir: Path) -> None:
    """Write `model/`, and `ema/` where there is one."""
    network.eval()
    for name, average in {"model": None, **({"ema": ema} if ema is not None else {})}.items():
        with _ema_weights(average, network), torch.no_grad():
            stage.finish(network)
            replace_folder(output_dir / name, network.save_pretrained)
