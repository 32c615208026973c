"""How fast a run is: samples, tokens and FLOPs a second, the share of the time it waits for data, peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# Dense bf16 TFLOP/s of the data sheets; the first name that a device's name contains counts.
PEAK_TFLOPS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A800": 312.0, "A100": 312.0}


def count_flops(compute: Callable[[], Any]) -> int:
    """FLOPs (2 a multiply-add) of the matrix products, attentions and convolutions that `compute` runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compute()
    return counter.get_total_flops()


def peak_tflops(device_name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device, None where it is not known."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device_name), None)


class Throughput:
    """Measures a run between two lines of its log.

    Args:
        device: of this process.
        samples_per_step: on all processes.
        num_processes: how many devices share them.
        tokens_per_sample: None where a sample has no tokens.
        forward_flops: of one sample; a training step takes three times as many (forward once, backward twice).
    """

    def __init__(
        self,
        device: torch.device,
        samples_per_step: int,
        num_processes: int,
        tokens_per_sample: int | None,
        forward_flops: int,
    ) -> None:
        self._device, self._samples_per_step = device, samples_per_step
        self._tokens_per_sample, self._flops = tokens_per_sample, 3 * forward_flops
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        peak = peak_tflops(name)
        self._peak = None if peak is None else peak * num_processes
        self._restart()

    def _restart(self) -> None:
        self._steps, self._paused, self._waited, self._started = 0, 0.0, 0.0, time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the request for the next batch."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is no training: validation and checkpoints."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def step(self) -> None:
        """A step has ended."""
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """What the steps since the last call were like.

        `model_tflops` are those of forward and backward pass per second on all processes, without what gradient
        checkpointing computes again; `mfu` is their share of the devices' dense bf16 peak, where that is known.
        """
        elapsed = time.perf_counter() - self._started - self._paused
        samples = self._steps * self._samples_per_step / elapsed
        figures = {"samples_per_second": samples}
        if self._tokens_per_sample is not None:
            figures["tokens_per_second"] = samples * self._tokens_per_sample
        figures["model_tflops"] = samples * self._flops / 1e12
        if self._peak is not None:
            figures["mfu"] = figures["model_tflops"] / self._peak
        figures["waiting_share"] = self._waited / elapsed
        figures["peak_memory_gb"] = _peak_memory(self._device) / 1e9
        self._restart()
        return figures


def _peak_memory(device: torch.device) -> int:
    """Bytes: what torch allocated on a GPU at most, or what the process held of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
