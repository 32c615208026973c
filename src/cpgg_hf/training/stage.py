"""What a stage gives the loop: data, network, loss, validation; and the module that the loop runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator

from cpgg_hf.training.arguments import TrainingArguments
from cpgg_hf.training.policy import inherited_policy
from cpgg_hf.training.randomness import StepRandomness

Batch = dict[str, torch.Tensor]
Loss = Callable[[Any, Batch, StepRandomness], dict[str, torch.Tensor]]


@dataclass
class Adversary:
    """A second network with an optimizer of its own, which judges what the first one makes (a GAN's discriminator).

    In every micro-batch from `first_step` on, the loop calls the stage's `loss`, during which this network is frozen,
    and then `loss` of this network; both optimizers step on the gradients of the same weights.

    Attributes:
        network: a module; the stage keeps a reference to use it in its own `loss`.
        loss: (network, batch, draws) -> scalars to log, of which `loss` is minimised. What the first network made for
            this batch is the stage's to keep, detached, from its own `loss` to this one.
        learning_rate: of its AdamW; its schedule is the run's, begun at `first_step`; gradients are clipped alike.
        adam_betas: of its AdamW.
        first_step: the step from which on it learns.
    """

    network: torch.nn.Module
    loss: Loss
    learning_rate: float
    adam_betas: tuple[float, float] = (0.5, 0.9)
    first_step: int = 0


class Stage(ABC):
    """One trainable part of CPGG. The loop calls `load_data`, `build`, then `loss` and `validate`, at last `finish`.

    A data set takes a list of indices and gives a batch: `data[[3, 17]] -> {"cine": (2, T, H, W), ...}`, whose
    tensors the loop moves to the device; or it is a `StreamedCines`.

    Attributes:
        mixes_samples: whether a sample's loss depends on the others of its micro-batch (batch normalisation): then a
            run cannot go on with other micro-batches than it began with.
    """

    name: ClassVar[str]
    arguments_class: ClassVar[type[TrainingArguments]]
    mixes_samples: ClassVar[bool] = False

    def __init__(self, arguments: TrainingArguments) -> None:
        self.arguments = arguments

    @abstractmethod
    def load_data(self, accelerator: Accelerator) -> tuple[Any, str]:
        """The training split and a fingerprint of its content; held-out data stays with the stage."""

    @abstractmethod
    def build(self) -> Any:
        """The network to train: a module with `save_pretrained`. Called after `load_data`, under the run's seed."""

    def build_adversary(self, network: Any) -> Adversary | None:  # noqa: ARG002 - most stages have none
        """A second network that is trained against the first, or None. Called after `build`."""
        return None

    @abstractmethod
    def loss(self, network: Any, batch: Batch, draws: StepRandomness) -> dict[str, torch.Tensor]:
        """Scalars to log, each a mean over the samples; `loss` is the one that is minimised.

        Randomness comes from `draws`, so that a sample has the same noise however the step is shared out. What draws
        from torch's global generator (dropout) is repeatable too, but belongs to the micro-batch.
        """

    @abstractmethod
    def validate(self, network: Any, folder: Path) -> dict[str, float]:
        """Figures on held-out data under a fixed seed, without gradients; pictures go into `folder`."""

    def data_policy(self) -> str:
        """Who may see what is trained here: the strictest policy of the data and networks it comes from."""
        return inherited_policy(self.arguments)

    def finish(self, network: Any) -> None:  # noqa: B027 - most stages have nothing to add
        """What the trained network still needs before `save_pretrained`, such as measured statistics."""

    def tokens_per_sample(self, network: Any) -> int | None:  # noqa: ARG002 - most networks have none
        """Tokens that a sample is made of, for the log; None where there are none."""
        return None


class LossModule(torch.nn.Module):
    """A network and its loss as one `forward`: DDP, FSDP and autocast act there, and only there."""

    def __init__(self, network: torch.nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, batch: Batch, draws: StepRandomness) -> dict[str, torch.Tensor]:
        """The loss terms of a batch."""
        return self._loss(self.network, batch, draws)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Losses are computed in float32 where a network has less; a network in float64 keeps it."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
