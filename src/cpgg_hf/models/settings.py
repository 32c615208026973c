"""`GenerationSettings`: how cines are generated, as one dataclass for pipeline, command line, plans and cards."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from cpgg_hf.models.guidance import as_guidance


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of one pipeline call. Each field's metadata holds its `help`.

    Raises:
        ValueError: a value is out of range.
    """

    guidance_scale: Any = field(
        default=3.0,
        metadata={
            "help": "strength of the guidance by the phenotypes (1 = no guidance, 0 = unconditional)",
            "type": float,
        },
    )
    temperature: float = field(
        default=1.0, metadata={"help": "scale of the noise that each diffusion step adds", "type": float}
    )
    num_decoding_steps: int = field(
        default=16, metadata={"help": "passes of the transformer, at most one per token", "type": int}
    )
    num_inference_steps: int = field(default=100, metadata={"help": "diffusion steps per token", "type": int})

    def __post_init__(self) -> None:
        as_guidance(self.guidance_scale)
        if not isinstance(self.temperature, Real) or not 0 <= float(self.temperature) < np.inf:
            raise ValueError(f"temperature must be a positive number or 0, given {self.temperature!r}.")
        for name in ("num_decoding_steps", "num_inference_steps"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a positive integer, given {value!r}.")

    @classmethod
    def of(cls, config: Mapping[str, Any], **overrides: Any) -> "GenerationSettings":
        """The settings of a pipeline's config (`pipe.config` or the content of model_index.json).

        Args:
            config: the defaults; settings that it lacks take the defaults of this class.
            overrides: settings by name; None = the config's.

        Raises:
            ValueError: an unknown setting, or a value out of range.
        """
        unknown = overrides.keys() - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(
                f"unknown settings {sorted(unknown)}; expected among {', '.join(one.name for one in fields(cls))}."
            )
        given = {name: value for name, value in overrides.items() if value is not None}
        return cls(**{one.name: config.get(one.name, one.default) for one in fields(cls)} | given)
