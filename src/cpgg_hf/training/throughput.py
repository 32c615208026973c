"""Speed of a run: samples, tokens and FLOPs per second, share of time waiting for data, peak memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

# Dense bf16 TFLOP/s from the data sheets; the first key that the device's name contains is used.
PEAK_TFLOPS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A800": 312.0, "A100": 312.0}


def count_flops(compute: Callable[[], Any]) -> int:
    """FLOPs (2 per multiply-add) of the matrix products, attentions and convolutions that `compute` runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compute()
    return counter.get_total_flops()


def peak_tflops(device_name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device, None if unknown."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device_name), None)


class Throughput:
    """Measures the steps between two lines of the log.

    Args:
        device: device of this process.
        samples_per_step: number of samples per step over all processes.
        num_processes: number of processes, on devices of the same kind.
        tokens_per_sample: None if samples have no tokens.
        forward_flops: operations per sample; a training step takes three times as many (forward once, backward
            twice).
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
        peak = peak_tflops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self._peak = None if peak is None else peak * num_processes
        self._restart()

    def _restart(self) -> None:
        self._steps, self._seconds, self._started = 0, {"waiting": 0.0, "pause": 0.0}, perf_counter()

    @contextmanager
    def time(self, what: Literal["waiting", "pause"]) -> Iterator[None]:
        """Context of the request for the next batch, or of validation and checkpoints, which are not training."""
        started = perf_counter()
        yield
        self._seconds[what] += perf_counter() - started

    def step(self) -> None:
        """Count a step."""
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """Figures of the steps since the last call.

        `model_tflops` counts forward and backward pass per second over all processes, without the recomputation of
        gradient checkpointing; `mfu` is its share of the devices' dense bf16 peak, if that is known.
        """
        elapsed = perf_counter() - self._started - self._seconds["pause"]
        samples = self._steps * self._samples_per_step / elapsed
        figures = {"samples_per_second": samples}
        if self._tokens_per_sample is not None:
            figures["tokens_per_second"] = samples * self._tokens_per_sample
        figures["model_tflops"] = samples * self._flops / 1e12
        if self._peak is not None:
            figures["mfu"] = figures["model_tflops"] / self._peak
        figures["waiting_share"] = self._seconds["waiting"] / elapsed
        figures["peak_memory_gb"] = _peak_memory(self._device) / 1e9
        self._restart()
        return figures


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: allocated by torch on a GPU, or held by the process in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
