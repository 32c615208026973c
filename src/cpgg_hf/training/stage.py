"""The interface of a stage: data, network, loss, validation; and the module that the loop runs."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import torch
from accelerate import Accelerator

from cpgg_hf.data_policy import UNKNOWN_POLICY, strictest
from cpgg_hf.errors import TrainingError
from cpgg_hf.hub.policy import inherited_policy
from cpgg_hf.models.size_bounds import check_sizes
from cpgg_hf.training.arguments import TrainingArguments, check_keys, is_free_text
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.trained_models import load_trained

Batch = dict[str, torch.Tensor]
Loss = Callable[[Any, Batch, StepRandomness], dict[str, torch.Tensor]]


@dataclass
class DiscriminatorTraining:
    """A GAN's discriminator: a second network with its own loss and optimizer.

    In every micro-batch from `first_step` on, the loop calls the stage's `loss`, during which the discriminator is
    frozen, and then the `loss` of the discriminator; both optimizers then step. The stage keeps a reference to the
    discriminator, and between the two losses the detached output of the first network.

    Attributes:
        network: the discriminator.
        loss: (network, batch, randomness) -> scalars to log, of which `loss` is minimised.
        learning_rate: peak rate of its AdamW, with the run's schedule from `first_step` on and the run's clipping.
        adam_betas: betas of its AdamW.
        first_step: step from which it learns, counted from 0.
    """

    network: torch.nn.Module
    loss: Loss
    learning_rate: float
    adam_betas: Sequence[float] = (0.5, 0.9)
    first_step: int = 0


class Stage(ABC):
    """One trainable part of CPGG. The loop calls `load_data`, `build`, then `loss` and `validate`, finally `finish`.

    A data set maps a list of indices to a batch, `data[[3, 17]] -> {"cine": (2, T, H, W), ...}`, whose tensors the
    loop moves to the device; or it is a `StreamedCines`. The log counts tokens if the network's configuration has
    `num_tokens`.

    Attributes:
        mixes_samples: whether the loss of a sample depends on the others of its micro-batch (batch normalisation);
            such a run can only be resumed with the same micro-batches.
    """

    name: ClassVar[str]
    arguments_class: ClassVar[type[TrainingArguments]]
    mixes_samples: ClassVar[bool] = False

    def __init__(self, arguments: TrainingArguments) -> None:
        self.arguments = arguments

    def model_settings(self, network_class: type, computed: Iterable[str] = ()) -> dict[str, Any]:
        """The section `model:`, which may name the arguments of a network's constructor that are not `computed`."""
        check_keys(self.arguments.model, inspect.signature(network_class).parameters.keys() - set(computed), "model")
        try:
            check_sizes(self.arguments.model)
        except ValueError as error:
            raise TrainingError(f"the section `model:` cannot be used: {error}") from error
        return self.arguments.model

    def load_initial(self, network_class: Any, init_from: str) -> Any:
        """The trained network to start from, which has its own settings.

        Raises:
            TrainingError: the section `model:` is given too, or there is no such network.
        """
        if self.arguments.model:
            raise TrainingError("model settings come from init_from; leave out the section `model:`.")
        return load_trained(network_class, init_from)

    @abstractmethod
    def load_data(self, accelerator: Accelerator) -> tuple[Any, str]:
        """The training split and a fingerprint of its content; the stage keeps the held-out data."""

    @abstractmethod
    def build(self) -> Any:
        """The network to train: a module with `save_pretrained`. Called after `load_data`, under the run's seed."""

    def build_discriminator(self, network: Any) -> DiscriminatorTraining | None:  # noqa: ARG002 - most stages have none
        """A discriminator to train against the network, or None. Called after `build`."""
        return None

    @abstractmethod
    def loss(self, network: Any, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:
        """Scalars to log, each a mean over the samples; `loss` is minimised.

        Random numbers come from `randomness`, so that a sample has the same noise however the step is distributed.
        torch's global generator (dropout) is repeatable too, but depends on the micro-batch.
        """

    @abstractmethod
    def validate(self, network: Any, folder: Path) -> dict[str, float]:
        """Figures on held-out data under a fixed seed, without gradients; pictures go into `folder`."""

    def data_policy(self) -> str:
        """The data policy of the trained network: the strictest of its sources, which the arguments declare."""
        return strictest(source_policies(self.arguments).values())

    def finish(self, network: Any) -> None:  # noqa: B027 - most stages have nothing to add
        """Complete the trained network before `save_pretrained`, for example with measured statistics."""


def source_policies(arguments: TrainingArguments) -> dict[str, str]:
    """The data policy of every given source, by the name of its argument.

    A source is any free text that is not declared to be none (see `argument`). A source that states no policy has the
    one that the user states for it, else it is restricted; the user's statement never loosens the source's own.
    """
    kinds, policies = get_type_hints(type(arguments)), {}
    for entry in fields(arguments):
        value, source = getattr(arguments, entry.name), entry.metadata.get("source", "undeclared")
        if not entry.init or not value or source == "none" or not is_free_text(kinds[entry.name]):
            continue
        if source == "phantoms":
            policies[entry.name] = "phantom"
        elif value in entry.metadata.get("public", ()):
            policies[entry.name] = "public"
        elif source in ("model", "dataset"):
            policies[entry.name] = inherited_policy(value, source, arguments.source_policies.get(entry.name))
        else:
            policies[entry.name] = UNKNOWN_POLICY
    return policies


class LossModule(torch.nn.Module):
    """A network and its loss as one `forward`: DDP, FSDP and autocast act there, and only there."""

    def __init__(self, network: torch.nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:
        """The loss terms of a batch."""
        return self._loss(self.network, batch, randomness)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as float32, or as float64 if it is that: losses are never computed in half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
