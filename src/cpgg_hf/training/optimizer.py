"""A network with its loss, its AdamW and its learning rate schedule, prepared by accelerate."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler

from cpgg_hf.training.arguments import TrainingArguments
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Loss, LossModule


class OptimizedModule:
    """One network with its optimizer and schedule; a run has one, or two with a discriminator.

    The accelerator prepares network and optimizer, and keeps the schedule in its checkpoints. `learning_rate` is the
    peak of the schedule, `num_steps` its length, `betas` are AdamW's; a warm-up in epochs needs `steps_per_epoch`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        arguments: TrainingArguments,
        network: torch.nn.Module,
        loss: Loss,
        learning_rate: float,
        betas: Sequence[float],
        num_steps: int,
        steps_per_epoch: int,
    ) -> None:
        self._accelerator, self._max_grad_norm = accelerator, arguments.max_grad_norm
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        groups = [  # no weight decay of biases and norms
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": arguments.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        beta1, beta2 = betas
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2), fused=True)
        self.module, self._optimizer = accelerator.prepare(LossModule(network, loss).train(), optimizer)
        warmup = arguments.lr_warmup_steps
        if arguments.lr_warmup_epochs is not None:
            warmup = round(arguments.lr_warmup_epochs * steps_per_epoch)
        # On the bare optimizer: accelerate's own schedule would take a step for every process.
        self._schedule = get_scheduler(
            arguments.lr_scheduler,
            getattr(self._optimizer, "optimizer", self._optimizer),
            num_warmup_steps=warmup,
            num_training_steps=num_steps,
        )
        accelerator.register_for_checkpointing(self._schedule)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def backward(self, batch: Batch, randomness: StepRandomness, weight: float) -> dict[str, torch.Tensor]:
        """Add the gradients of one part of the global batch; returns its loss terms, weighted and detached.

        `weight` is that of the part's mean in the mean over all parts.
        """
        terms: dict[str, Any] = self.module(batch, randomness)
        self._accelerator.backward(weight * terms["loss"])
        return {name: weight * term.detach() for name, term in terms.items()}

    def clip(self) -> float | None:
        """Clip the gradients of a step; returns their norm before, or None without clipping."""
        if self._max_grad_norm is None:
            return None
        return float(self._accelerator.clip_grad_norm_(self.module.parameters(), self._max_grad_norm))

    def step(self) -> None:
        """Update the weights, clear the gradients and advance the schedule."""
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule.step()
