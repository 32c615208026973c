"""Guidance rules: how conditional and unconditional estimates of the token diffusion are combined.

`ConstantGuidance` is the paper's classifier-free guidance (arXiv 2207.12598, equation 6). A new rule is a subclass of
`Guidance`; pass it to the pipeline as `guidance_scale`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


class GuidanceStep(NamedTuple):
    """One diffusion step within one decoding step; both count from 0."""

    decoding_step: int
    num_decoding_steps: int
    diffusion_step: int
    num_diffusion_steps: int


class Guidance:
    """Base class of guidance rules. A subclass must define `scale` and may override the other methods."""

    def scale(self, step: GuidanceStep) -> float:
        """The scale at a step, at least 0: 1 = conditional estimate only, 0 = unconditional estimate only."""
        raise NotImplementedError

    def passes(self, steps: Iterable[GuidanceStep]) -> tuple[bool, bool]:
        """Whether the steps of one decoding step need a conditional pass, and whether an unconditional one.

        Raises:
            ValueError: a scale is negative or not finite.
        """
        scales = {float(self.scale(step)) for step in steps}
        if not all(0 <= scale < np.inf for scale in scales):
            raise ValueError(f"a guidance rule's scale must be a positive number or 0, given {sorted(scales)}.")
        return scales != {0.0}, scales != {1.0}

    def unconditional(self, phenotypes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The condition of the unconditional pass; a rule may return a weaker condition instead.

        Args:
            phenotypes: (B, 82) in physical units, NaN = missing.

        Returns:
            phenotypes (B, 82), and (B,) bool: where the null embedding replaces them (here: everywhere).
        """
        return phenotypes, phenotypes.new_ones(len(phenotypes)).bool()

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor, step: GuidanceStep) -> torch.Tensor:
        """The guided estimate (B, n, D) of noise or velocity from the two estimates (B, n, D)."""
        return unconditional.lerp(conditional, self.scale(step))


@dataclass(frozen=True)
class ConstantGuidance(Guidance):
    """Classifier-free guidance with one scale for all steps.

    Args:
        guidance_scale: 1 = no guidance, 0 = unconditional; the paper uses 3.
    """

    guidance_scale: float

    def scale(self, step: GuidanceStep) -> float:  # noqa: ARG002
        return self.guidance_scale


def as_guidance(guidance_scale: Any) -> Guidance:
    """A number as `ConstantGuidance`; a guidance object as it is.

    Raises:
        ValueError: it is neither a finite number of at least 0 nor a guidance object.
    """
    if hasattr(guidance_scale, "combine"):  # not isinstance: remote code has one copy of the class per file
        return guidance_scale
    if not isinstance(guidance_scale, Real) or not 0 <= float(guidance_scale) < np.inf:
        raise ValueError(
            f"guidance_scale must be a positive number or 0, or a Guidance object, given {guidance_scale!r}."
        )
    return ConstantGuidance(float(guidance_scale))
