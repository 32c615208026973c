"""What a stage gives the loop: data, network, loss, validation; and the module that the loop runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from cpgg_hf.training.arguments import TrainingArguments

Batch = dict[str, torch.Tensor]


class Stage(ABC):
    """One trainable part of CPGG. The loop calls `load_data`, `build`, then `loss` and `validate`, at last `finish`.

    A data set takes a list of indices and gives a batch: `data[[3, 17]] -> {"cine": (2, T, H, W), ...}`, whose
    tensors the loop moves to the device.
    """

    name: ClassVar[str]
    arguments_class: ClassVar[type[TrainingArguments]]

    def __init__(self, arguments: TrainingArguments) -> None:
        self.arguments = arguments

    @abstractmethod
    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """The training split and a fingerprint of its content; held-out data stays with the stage."""

    @abstractmethod
    def build(self) -> Any:
        """The network to train: a module with `save_pretrained`. Called after `load_data`, under the run's seed."""

    @abstractmethod
    def loss(self, network: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars to log; `loss` is the one that is minimised. Randomness comes from torch's global generator."""

    @abstractmethod
    def validate(self, network: Any, folder: Path) -> dict[str, float]:
        """Figures on held-out data under a fixed seed, without gradients; pictures go into `folder`."""

    def finish(self, network: Any) -> None:  # noqa: B027 - most stages have nothing to add
        """What the trained network still needs before `save_pretrained`, such as measured statistics."""


class LossModule(torch.nn.Module):
    """The network and its loss as one `forward`: DDP, FSDP and autocast act there, and only there."""

    def __init__(self, network: torch.nn.Module, stage: Stage) -> None:
        super().__init__()
        self.network = network
        self._loss = stage.loss

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The stage's loss terms of a batch."""
        return self._loss(self.network, batch)
