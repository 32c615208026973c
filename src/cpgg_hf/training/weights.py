"""The trained weights and their moving average, on every process or sharded over all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.checkpoints import replace_folder
from cpgg_hf.training.stage import Stage


class MovingAverage(EMAModel):
    """diffusers' `EMAModel` with an unsharded state, so that any number of processes can load it."""

    def state_dict(self) -> dict[str, Any]:
        """The settings, and the averages gathered from all processes."""
        return {**super().state_dict(), "shadow_params": [_whole(average) for average in self.shadow_params]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them, each with the device and sharding of the average that it replaces."""
        present = self.shadow_params
        super().load_state_dict(state_dict)
        self.shadow_params = [
            _laid_out(average, like) for average, like in zip(self.shadow_params, present, strict=True)
        ]


class TrainedWeights:
    """The network in training, prepared by `accelerator`, and the moving average of its weights.

    There is no average if `ema_decay` is None.
    """

    def __init__(self, accelerator: Accelerator, network: Any, ema_decay: float | None) -> None:
        self._accelerator, self._network = accelerator, network
        self._sharded = any(isinstance(parameter, DTensor) for parameter in network.parameters())
        self.average: MovingAverage | None = None
        if ema_decay is not None:
            self.average = MovingAverage(network.parameters(), decay=ema_decay, foreach=True)

    def step(self) -> None:
        """Update the average."""
        if self.average is not None:
            self.average.step(self._network.parameters())

    @contextmanager
    def whole_network(self, averaged: bool) -> Iterator[Any]:
        """The network in evaluation mode, without gradients, with its own or the averaged weights.

        All processes enter together. If weights are sharded, the main process gets an unsharded copy, the others None.
        """
        parameters = list(self._network.parameters())
        average = self.average if averaged else None
        if self._sharded:
            yield self._gather(parameters if average is None else average.shadow_params)
            return
        if average is not None:
            average.store(parameters)
            average.copy_to(parameters)
        self._network.eval()
        try:
            with torch.no_grad():
                yield self._network
        finally:
            self._network.train()
            if average is not None:
                average.restore(parameters)

    def save_average(self, folder: Path) -> None:
        """`save_pretrained` of the averaged network, if there is one; all processes call it."""
        if self.average is not None:
            with self.whole_network(averaged=True) as network:
                if self._accelerator.is_main_process:
                    network.save_pretrained(folder)

    def save_finished(self, stage: Stage, output_dir: Path) -> None:
        """Write `model/`, and `ema/` if there is an average, each after the stage's `finish`."""
        for name in ("model",) if self.average is None else ("model", "ema"):
            with self.whole_network(averaged=name == "ema") as network:
                if self._accelerator.is_main_process:
                    stage.finish(network)
                    replace_folder(output_dir / name, network.save_pretrained)
        self._accelerator.wait_for_everyone()

    def _gather(self, tensors: list[torch.Tensor]) -> Any:
        """An unsharded network on the main process, in evaluation mode, with these tensors as its parameters."""
        if not isinstance(self._network, PreTrainedModel):
            raise TrainingError(
                f"FSDP is supported for the MAR only, given {type(self._network).__name__}; launch with DDP."
            )
        whole = None
        if self._accelerator.is_main_process:
            whole = type(self._network)(self._network.config).to(self._accelerator.device).eval()
            whole.requires_grad_(False)
        places = tensors if whole is None else list(whole.parameters())
        for place, tensor in zip(places, tensors, strict=True):
            gathered = _whole(tensor)  # all processes take part
            if whole is not None:
                place.copy_(gathered)
        return whole


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _laid_out(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)
