"""The training loop of every stage, on accelerate: one process or many, one CPU or nodes of GPUs.

    accelerate launch training_scripts/train_vae.py --config training_scripts/configs/phantom_small_vae.yaml
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/train_vae.py --config ...  # two CPU processes

A run folder holds `log.jsonl`, `checkpoint-<step>/` (resume with `--resume_from_checkpoint latest`, which restores
weights, EMA, optimizers, schedules and the position in the data exactly; random numbers follow from the step),
`validation/<step>/` with pictures, and after the last step `model/` (the trained weights) and `ema/` (their moving
average, which is usually better), both for `from_pretrained`.
"""

import errno
import json
import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar

from cpgg_hf.errors import CPGGError, TrainingError
from cpgg_hf.shards import locked
from cpgg_hf.training.checkpoints import RunState, find_checkpoint, load_checkpoint, save_checkpoint
from cpgg_hf.training.cine_batches import StreamedCines
from cpgg_hf.training.configuration import parse_arguments
from cpgg_hf.training.data_order import BatchPlan, DataOrder
from cpgg_hf.training.optimizer import OptimizedModule
from cpgg_hf.training.preemption import StopRequest
from cpgg_hf.training.randomness import StepRandomness, seed_global_generator
from cpgg_hf.training.setup import (
    build_network,
    checkpoint_activations,
    identify,
    load_batches,
    make_accelerator,
    record_policy,
)
from cpgg_hf.training.stage import Stage, source_policies
from cpgg_hf.training.throughput import Throughput, count_flops
from cpgg_hf.training.tracking import RunLog, check_tracker, log_pictures, start_tracker
from cpgg_hf.training.uploads import RunUploads
from cpgg_hf.training.weights import TrainedWeights


def launch(stage_class: type[Stage], argv: Sequence[str] | None = None) -> int:
    """A training script: reads the arguments and trains; prints an error as one sentence and returns 1."""
    disable_progress_bar()  # transformers would draw one for every checkpoint
    try:
        train(stage_class(parse_arguments(stage_class.arguments_class, argv)))
    except CPGGError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; whatever was saved before is intact.", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: no space left on the disk ({error}); free some, then resume the run.", file=sys.stderr)
        return 1
    return 0


def train(stage: Stage) -> RunState:
    """Train a stage until its last step, `max_seconds`, SIGTERM or Ctrl-C; returns the position.

    Raises:
        TrainingError: the checkpoint to resume belongs to another run; the loss or a gradient is not finite; a
            checkpoint cannot be written.
        OutputError: another run is active in `output_dir`, or it cannot be written.
    """
    check_tracker(stage.arguments.report_to)
    accelerator, plan = make_accelerator(stage.arguments)
    # `output_dir` is that of all processes, so the first one holds its lock for all.
    alone = locked(Path(stage.arguments.output_dir), "training") if accelerator.is_main_process else nullcontext()
    with alone, StopRequest(stage.arguments.max_seconds) as stop:
        run = _Run(stage, stop, accelerator, plan)
        run.until_stopped()
        run.end()
    return run.state


class _Run:
    """A run from its first step, or from a checkpoint."""

    def __init__(self, stage: Stage, stop: StopRequest, accelerator: Accelerator, plan: BatchPlan) -> None:
        self.stage, self.stop, self.stopped = stage, stop, False
        self.accelerator, self.plan = accelerator, plan
        self.arguments = arguments = stage.arguments
        self.output_dir = Path(arguments.output_dir)
        checkpoint = find_checkpoint(self.output_dir, arguments.resume_from_checkpoint)
        self.uploads = RunUploads(stage, self.accelerator, self.output_dir, self.plan.global_batch_size)

        data, fingerprint = stage.load_data(self.accelerator)
        set_seed(arguments.seed)
        self.network = build_network(stage)
        record_policy(self.network, stage.data_policy())
        self.discriminator = stage.build_discriminator(self.network)
        if arguments.gradient_checkpointing:
            checkpoint_activations(self.network)
        self.order = DataOrder(len(data), self.plan, arguments.seed, self.accelerator.process_index)
        epoch = self.order.steps_per_epoch
        self.num_steps = arguments.max_train_steps or round((arguments.num_train_epochs or 0) * epoch)
        if self.num_steps == 0:
            raise TrainingError(
                f"num_train_epochs is {arguments.num_train_epochs}, less than one of the {epoch} steps of an epoch; "
                "give more, or max_train_steps."
            )
        optimize = partial(
            OptimizedModule, self.accelerator, arguments, num_steps=self.num_steps, steps_per_epoch=epoch
        )
        self.optimized = optimize(self.network, stage.loss, arguments.learning_rate, arguments.adam_betas)
        self.optimized_discriminator: OptimizedModule | None = None
        if (added := self.discriminator) is not None:
            self.optimized_discriminator = optimize(added.network, added.loss, added.learning_rate, added.adam_betas)
        ema_decay = arguments.ema_decay if arguments.use_ema else None
        self.weights = TrainedWeights(self.accelerator, self.network, ema_decay)
        if self.weights.average is not None:
            self.accelerator.register_for_checkpointing(self.weights.average)

        self.identity = identify(stage, self.plan, data, fingerprint)
        self.state = RunState()
        if checkpoint is not None:
            self.state = load_checkpoint(self.accelerator, checkpoint, self.identity, type(arguments))
        self.order.first_step, self.streamed = self.state.step, isinstance(data, StreamedCines)
        self.batches = load_batches(data, self.order, arguments, self.accelerator.device)
        self.throughput = self._measure()
        if arguments.torch_compile_backend is not None:
            self.network.compile(backend=arguments.torch_compile_backend)
        self.log = RunLog(self.output_dir / "log.jsonl", self.state.step, self.accelerator.is_main_process)
        start_tracker(self.accelerator, stage.name, arguments)
        self._announce(f"resumed from {checkpoint}" if checkpoint else "from the beginning")

    def until_stopped(self) -> None:
        """Steps, each followed by a line of the log, a validation and a checkpoint where they are due."""
        arguments, state = self.arguments, self.state
        shown = self.accelerator.is_main_process
        self.stop.begun = True
        with tqdm(initial=state.step, total=self.num_steps, unit="step", disable=None if shown else True) as bar:
            while state.step < self.num_steps and not self.stopped:
                learning_rate = self.optimized.learning_rate
                self._step()
                bar.update()
                last = state.step == self.num_steps
                if state.step % arguments.logging_steps == 0 or last:
                    epoch, speed = state.step / self.order.steps_per_epoch, self.throughput.figures()
                    self._record(epoch=epoch, **state.take_means(), lr=learning_rate, **speed, seconds=state.seconds)
                with self.throughput.time("pause"):
                    if state.step % arguments.validation_steps == 0 or last:
                        self._validate()
                    if state.step % arguments.checkpointing_steps == 0 or last or self.stopped:
                        self._save()
                        self.uploads.start(self.output_dir / f"checkpoint-{state.step:07d}" / "ema", state, self.log)

    def end(self) -> None:
        """Save the finished networks, or print how to resume."""
        if self.state.step >= self.num_steps:
            self.weights.save_finished(self.stage, self.output_dir)
            best = "model" if self.weights.average is None else "ema"
            self.uploads.start(self.output_dir / best, self.state, self.log, last=True)
        else:
            self.accelerator.print(
                f"stopped at step {self.state.step} of {self.num_steps} ({self.stop.reason}), checkpoint saved; "
                "resume with --resume_from_checkpoint latest"
            )
        self._leave()
        self.uploads.finish()

    def _leave(self) -> None:
        """Leave the process group, after freeing the modules that reduce gradients over it.

        torch frees such a module with the interpreter's lock held. If it were the last to hold the process group, it
        would wait for gloo's threads, which sometimes wait for that lock (pytorch issue 56297), and the process hangs.
        """
        del self.optimized, self.optimized_discriminator
        self.accelerator.free_memory()
        self.accelerator.end_training()

    def _step(self) -> None:
        """One optimizer step: the gradients of all micro-batches, checked before any weight changes."""
        started = time.perf_counter()
        accelerator, seed, step = self.accelerator, self.arguments.seed, self.state.step
        process = accelerator.process_index
        discriminator, optimized_discriminator = self.discriminator, self.optimized_discriminator
        if discriminator is None or step < discriminator.first_step:
            optimized_discriminator = None
        trained = [one for one in (self.optimized, optimized_discriminator) if one is not None]
        sums: dict[str, torch.Tensor] = {}
        for micro_batch in range(self.plan.accumulation):
            with self.throughput.time("waiting"):
                batch = next(self.batches)
            batch = send_to_device(batch, accelerator.device, non_blocking=True)
            part, weight = self.plan.part(micro_batch, process), self.plan.weight(micro_batch, process)
            seed_global_generator(seed, step, micro_batch, process)
            randomness = StepRandomness(seed, step, part.start, len(part), accelerator.device)
            with accelerator.accumulate(*(one.module for one in trained)):
                if discriminator is not None:
                    discriminator.network.requires_grad_(False)
                terms = self.optimized.backward(batch, randomness, weight)
                if discriminator is not None and optimized_discriminator is not None:
                    discriminator.network.requires_grad_(True)
                    own_terms = optimized_discriminator.backward(batch, randomness, weight)
                    terms |= {f"discriminator_{name}": term for name, term in own_terms.items()}
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term / self.plan.accumulation
        values = self._share(sums)
        if not all(map(math.isfinite, values.values())):
            self._refuse(f"the loss is not finite: {values}")
        norm = self.optimized.clip()
        if norm is not None:
            values["grad_norm"] = norm
            if accelerator.scaler is None and not math.isfinite(norm):
                self._refuse("the gradient is not finite")
        self.optimized.step()
        if optimized_discriminator is not None:
            optimized_discriminator.clip()
            optimized_discriminator.step()
        self.weights.step()
        self.state.add(values)
        self.state.step += 1
        self.state.seconds += time.perf_counter() - started
        self.throughput.step()

    def _share(self, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        """Loss terms averaged over the processes, and whether any of them has to stop, in one all-reduce."""
        stopping = terms["loss"].new_tensor(float(bool(self.stop)))
        own = torch.stack([term.float() for term in (*terms.values(), stopping)])
        *means, stopped = self.accelerator.reduce(own, reduction="mean").tolist()
        self.stopped = stopped > 0
        return dict(zip(terms, means, strict=True))

    def _refuse(self, reason: str) -> NoReturn:
        """End a run whose step is not finite; the samples are named in the error and in `not_finite.json`."""
        step, path = self.state.step, self.output_dir / "not_finite.json"
        samples = None if self.streamed else self.order.global_batch(step).tolist()
        if self.accelerator.is_main_process:
            path.write_text(json.dumps({"step": step, "what": reason, "samples": samples}), encoding="utf-8")
        named = "the samples are those of the stream at this step"
        if samples is not None:
            shown = ", ".join(map(str, samples[:16])) + (", ..." if len(samples) > 16 else "")
            named = f"samples of the training split: {shown} (all in {path})"
        raise TrainingError(
            f"step {step}: {reason}, {named}; weights and earlier checkpoints are intact, so inspect these samples or "
            "lower the learning rate."
        )

    def _validate(self) -> None:
        """The stage's figures for the EMA weights; weights, mode and random state do not change."""
        folder = self.output_dir / "validation" / f"{self.state.step:07d}"
        with self.weights.whole_network(averaged=True) as network:
            if self.accelerator.is_main_process:
                folder.mkdir(parents=True, exist_ok=True)
                with torch.random.fork_rng(), self.accelerator.autocast():
                    torch.manual_seed(self.arguments.seed)
                    figures = self.stage.validate(network, folder)
                self._record(**{f"validation_{name}": value for name, value in figures.items()})
                log_pictures(self.accelerator, folder, self.state.step)
                for empty in (folder, folder.parent):  # a stage without pictures
                    if not any(empty.iterdir()):
                        empty.rmdir()
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        save_checkpoint(
            self.accelerator, self.output_dir, self.state, self.identity, self.arguments.checkpoints_total_limit,
            lambda folder: self.weights.save_average(folder / "ema"),
        )  # fmt: skip

    def _record(self, **values: Any) -> None:
        """A line of the log, and the same figures to the tracker."""
        if self.accelerator.is_main_process:
            tqdm.write(self.log.write(step=self.state.step, **values))
            self.accelerator.log(values, step=self.state.step)

    def _measure(self) -> Throughput:
        """Count the FLOPs of the first sample, without changing the network."""
        first = next(self.batches)
        self.batches = chain([first], self.batches)
        sample = send_to_device({name: values[:1] for name, values in first.items()}, self.accelerator.device)
        randomness = StepRandomness(self.arguments.seed, self.state.step, 0, 1, self.accelerator.device)
        module = self.optimized.module.eval()
        flops = count_flops(lambda: module(sample, randomness))
        module.train()
        return Throughput(
            self.accelerator.device, self.plan.global_batch_size, self.plan.num_processes,
            getattr(self.network.config, "num_tokens", None), flops,
        )  # fmt: skip

    def _announce(self, start: str) -> None:
        num_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.accelerator.print(
            f"{type(self.network).__name__}: {num_parameters / 1e6:.2f} M parameters, {self.order.num_samples} "
            f"samples, {self.plan.num_processes} process(es), {self.plan.global_batch_size} samples per step in "
            f"{self.plan.accumulation} micro-batch(es), steps {self.state.step} to {self.num_steps} ({start})"
        )
        stated = self.arguments.source_policies
        policies = [
            f"{name} {policy}{f' (stated by the user as {stated[name]})' if name in stated else ''}"
            for name, policy in source_policies(self.arguments).items()
        ]
        self.accelerator.print(f"data policy: {self.stage.data_policy()} ({', '.join(policies)})")
