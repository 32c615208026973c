"""CPGGDDPMScheduler of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.

Generated from the sources of cpgg_hf by `cpgg export-remote-code`, do not edit. Apache-2.0.
"""

import math
import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler, DDPMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from functools import cache
from typing import Any, Literal, NamedTuple


# ---- cpgg_hf.models.token_diffusion


@cache
def cosine_betas(num_train_timesteps: int) -> np.ndarray:
    ends = np.arange(num_train_timesteps + 1) / num_train_timesteps
    alphas_cumprod = np.cos((ends + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999)


# ---- cpgg_hf.models.scheduling_cpgg_ddpm


class _Step(NamedTuple):

    sample: float
    noise: float
    original_sample: float
    original_noise: float
    log_deviation_middle: float
    log_deviation_slope: float
    of_sample: float
    of_original: float


class CPGGDDPMScheduler(DDPMScheduler):
    """DDPM on the cosine schedule with learned-range variance, float64 tables and a temperature.

    Inference timesteps are spread evenly, both ends included, and the schedule is re-spaced to them, as published.
    Only `num_train_timesteps` and the clipping can be changed; the other arguments state the implemented choices, so
    that another scheduler built with `from_config` adopts them, except the variance.

    Args:
        num_train_timesteps (`int`, defaults to 1000): steps of the diffusion that the head was trained on.
        beta_schedule (`str`, defaults to `"squaredcos_cap_v2"`): the cosine schedule.
        variance_type (`str`, defaults to `"learned_range"`): the model's output contains the variance.
        prediction_type (`str`, defaults to `"epsilon"`): the model estimates the noise.
        clip_sample (`bool`, defaults to `False`): whether each step's estimate of the clean latents is clipped to
            +- `clip_sample_range` (published: no). At the noisiest timesteps the estimate divides the error of the
            noise estimate by nearly zero, which diverges for a briefly trained head.
        clip_sample_range (`float`, defaults to 4.0): in standard deviations of the latents.
        timestep_spacing (`str`, defaults to `"linspace"`): the published spacing.
    """

    config: Any  # attributes are the arguments above

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_schedule: str = "squaredcos_cap_v2",
        variance_type: Literal["learned_range"] = "learned_range",
        prediction_type: str = "epsilon",
        clip_sample: bool = False,  # noqa: ARG002 (read from the config)
        timestep_spacing: str = "linspace",
        clip_sample_range: float = 4.0,  # noqa: ARG002
    ):
        for name, given, implemented in (
            ("beta_schedule", beta_schedule, "squaredcos_cap_v2"),
            ("variance_type", variance_type, "learned_range"),
            ("prediction_type", prediction_type, "epsilon"),
            ("timestep_spacing", timestep_spacing, "linspace"),
        ):
            if given != implemented:
                raise ValueError(
                    f"CPGGDDPMScheduler only implements {name}={implemented!r}, given {given!r}; "
                    "use diffusers' DDPMScheduler for other settings."
                )
        # In `from_config` of another class its own variance type applies, as it has no learned one, and no other
        # defaults of its own (diffusers would replace all values that are defaults here).
        self.register_to_config(_use_default_values=["variance_type"])
        self.betas = torch.from_numpy(cosine_betas(num_train_timesteps))
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        self.init_noise_sigma = 1.0
        self.variance_type = variance_type
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Sets the timesteps of the chain.

        Args:
            num_inference_steps: number of steps, at least 2 and at most `num_train_timesteps`; spread evenly.
            device: device of `timesteps`.
            timesteps: descending timesteps, instead of a number.

        Raises:
            ValueError: the number is out of range.
        """
        if timesteps is None and not 2 <= (num_inference_steps or 0) <= len(self):
            raise ValueError(f"num_inference_steps must lie between 2 and {len(self)}, given {num_inference_steps}.")
        super().set_timesteps(num_inference_steps, device, timesteps)  # type: ignore[arg-type]
        chain = self.timesteps.tolist()
        cumprods = self.alphas_cumprod.cpu().numpy()[chain]
        self._steps = dict(zip(chain, _reverse_steps(cumprods), strict=True))

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        temperature: float = 1.0,
        variance_noise: torch.Tensor | None = None,
    ) -> DDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Draws the sample of the previous timestep.

        Args:
            model_output: (B, 2 C, ...): noise estimate, then where the log-variance lies between its bounds (-1 to 1).
            timestep: one of `timesteps`.
            sample: (B, C, ...), at that timestep.
            generator: source of the added noise; a list has one per sample.
            return_dict: whether to return a `DDPMSchedulerOutput` rather than a tuple.
            temperature: scale of the added noise.
            variance_noise: (B, C, ...), the noise to add, instead of drawing it.

        Returns:
            `prev_sample` and `pred_original_sample`, both (B, C, ...).

        Raises:
            ValueError: the model output has no variance.
        """
        channels = sample.shape[1]
        if model_output.shape[1] != 2 * channels:
            raise ValueError(
                f"CPGGDDPMScheduler expects {2 * channels} channels (noise estimate and variance) for a sample of "
                f"{channels}, given {model_output.shape[1]}."
            )
        timestep = int(timestep)
        step = self._steps[timestep]
        noise_estimate, variance_value = model_output.split(channels, dim=1)
        original = torch.add(sample * step.original_sample, noise_estimate, alpha=step.original_noise)
        if self.config.clip_sample:
            original = original.clamp_(-self.config.clip_sample_range, self.config.clip_sample_range)
            previous = torch.add(sample * step.of_sample, original, alpha=step.of_original)
        else:
            previous = torch.add(sample * step.sample, noise_estimate, alpha=step.noise)
        if timestep > 0:
            if variance_noise is None:
                variance_noise = randn_tensor(
                    sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
                )
            deviation = (variance_value * step.log_deviation_slope).add_(step.log_deviation_middle).exp_()
            previous = previous.addcmul_(deviation, variance_noise, value=temperature)
        if not return_dict:
            return previous, original
        return DDPMSchedulerOutput(prev_sample=previous, pred_original_sample=original)


def _reverse_steps(alphas_cumprod: np.ndarray) -> list[_Step]:
    previous = np.append(alphas_cumprod[1:], 1.0)
    alphas = alphas_cumprod / previous
    betas = 1.0 - alphas
    original_sample = 1.0 / np.sqrt(alphas_cumprod)
    original_noise = -np.sqrt(1.0 / alphas_cumprod - 1.0)
    of_original = betas * np.sqrt(previous) / (1.0 - alphas_cumprod)
    of_sample = np.sqrt(alphas) * (1.0 - previous) / (1.0 - alphas_cumprod)
    log_maximum = np.log(betas)
    # The last step adds no noise: its variance of zero is never used.
    log_minimum = np.log(np.maximum(betas * (1.0 - previous) / (1.0 - alphas_cumprod), math.ulp(0.0)))
    columns = (
        of_original * original_sample + of_sample,
        of_original * original_noise,
        original_sample,
        original_noise,
        0.25 * (log_maximum + log_minimum),
        0.25 * (log_maximum - log_minimum),
        of_sample,
        of_original,
    )
    return [_Step(*row) for row in np.stack(columns, axis=1).tolist()]
