"""CPGG's two stages chained (arXiv 2505.03426, figure 1): phenotypes are sampled, then a cine is generated from them.

One diffusers pipeline: `CPGGPhenotypeVAE` draws the phenotypes that were not given, `CPGGMARModel` draws latents that
show them, `AutoencoderKLCPGG` decodes the latents into a beating heart.
"""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from safetensors import SafetensorError

from cpgg_hf.data_policy import strictest
from cpgg_hf.errors import CheckpointError, brief
from cpgg_hf.hub.mixin import HubPolicyMixin
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.checkpoint_files import check_index, check_model, read_json
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.models.registration import register
from cpgg_hf.models.scheduling_cpgg_ddpm import CPGGDDPMScheduler
from cpgg_hf.models.token_diffusion import check_scheduler
from cpgg_hf.phenotypes import NAMES, as_array, as_frame, complete_identities, heart_rate

register()  # so that a saved pipeline names this package, whichever module was imported first

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
_MODELS = {"phenotype_vae": CPGGPhenotypeVAE, "mar": CPGGMARModel, "vae": AutoencoderKLCPGG}
_COMPONENTS = _MODELS | {"scheduler": SchedulerMixin}


@dataclass
class CPGGPipelineOutput(BaseOutput):
    """What `CPGGPipeline` returns.

    Args:
        cines (`np.ndarray`): (B, T, H, W) float32 in [0, 1] for `output_type="np"`; a tensor of that for `"pt"`;
            T grey pictures a cine for `"pil"`; standardised latents (B, C, T', H', W') for `"latent"`.
        phenotypes (`pd.DataFrame`): B rows, 82 columns, physical units: what each cine was conditioned on. NaN = the
            MAR was told that it is missing (`fill_missing=False`).
        spacing_mm (`float`): pixel size of the cines.
        frame_time_ms (`np.ndarray`): (B,) from one frame to the next: RR / T with RR = 60000 / heart rate and heart
            rate = 1000 CO / SV of the phenotypes; NaN where these are missing.
        seeds (`np.ndarray`): (B,) int64. `generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds]`
            draws the same samples again, unless generators were given that had been used before.
    """

    cines: Any
    phenotypes: pd.DataFrame
    spacing_mm: float
    frame_time_ms: np.ndarray
    seeds: np.ndarray


class _Interrupted(Exception):  # noqa: N818 (no error: how a callback stops the MAR's decoding)
    """Carries the latents of the micro-batch at which a callback interrupted the pipeline."""

    def __init__(self, latents: torch.Tensor):
        super().__init__()
        self.latents = latents


class CPGGPipeline(HubPolicyMixin, DiffusionPipeline):  # type: ignore[misc]
    r"""
    Generates four-chamber cine cardiac MRI from cardiac phenotypes.

    This pipeline inherits from [`~diffusers.DiffusionPipeline`]: see there for loading, saving, devices and
    offloading. It is saved and loaded as safetensors only.

    Args:
        phenotype_vae ([`CPGGPhenotypeVAE`]): draws the phenotypes that a request leaves open.
        mar ([`CPGGMARModel`]): draws standardised latents from phenotypes; `pipe.mar.load_adapter(folder_or_repo)`
            puts a LoRA onto it.
        vae ([`AutoencoderKLCPGG`]): decodes latents into cines.
        scheduler ([`CPGGDDPMScheduler`]): the diffusion chain of a token; see `set_scheduler` for others. A MAR with a
            flow-matching head takes diffusers' `FlowMatchEulerDiscreteScheduler`; 8 to 25 steps do.
        guidance_scale (`float`, defaults to 3.0): what a call without `guidance_scale` uses; 3.0 is the paper's.
        temperature (`float`, defaults to 1.0): what a call without `temperature` uses, if the scheduler is a
            `CPGGDDPMScheduler`; others know none but 1.
        num_decoding_steps (`int`, defaults to 16): what a call without `num_decoding_steps` uses.
        num_inference_steps (`int`, defaults to 100): what a call without `num_inference_steps` uses.
        pixel_spacing_mm (`float`, defaults to 1.8): pixel size of the cines that the models were trained on.
        micro_batch_size (`int`, defaults to 8): how many samples the MAR always works on at once. Kernels round
            differently at different shapes, so incomplete micro-batches are padded: a sample is the same in any
            company. 1 wastes nothing and is best on a CPU; a GPU wants more. Between values, samples differ by
            rounding.
    """

    config: Any  # attributes are the parameters above
    phenotype_vae: CPGGPhenotypeVAE
    mar: CPGGMARModel
    vae: AutoencoderKLCPGG
    scheduler: Any

    model_cpu_offload_seq = "phenotype_vae->mar->vae"  # type: ignore[assignment]
    _optional_components: list[str] = []  # noqa: RUF012
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        phenotype_vae: CPGGPhenotypeVAE,
        mar: CPGGMARModel,
        vae: AutoencoderKLCPGG,
        scheduler: SchedulerMixin,
        guidance_scale: float = 3.0,
        temperature: float = 1.0,
        num_decoding_steps: int = 16,
        num_inference_steps: int = 100,
        pixel_spacing_mm: float = 1.8,
        micro_batch_size: int = 8,
    ):
        super().__init__()
        _check_components(phenotype_vae=phenotype_vae, mar=mar, vae=vae, scheduler=scheduler)
        _check_positive(
            num_decoding_steps=num_decoding_steps,
            num_inference_steps=num_inference_steps,
            pixel_spacing_mm=pixel_spacing_mm,
            micro_batch_size=micro_batch_size,
        )
        _check_positive(or_zero=True, guidance_scale=guidance_scale, temperature=temperature)
        self.register_modules(phenotype_vae=phenotype_vae, mar=mar, vae=vae, scheduler=scheduler)
        self.register_to_config(
            guidance_scale=guidance_scale,
            temperature=temperature,
            num_decoding_steps=num_decoding_steps,
            num_inference_steps=num_inference_steps,
            pixel_spacing_mm=pixel_spacing_mm,
            micro_batch_size=micro_batch_size,
        )
        self._guidance_scale = guidance_scale
        self._num_timesteps = 0
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "CPGGPipeline":
        """Loads a pipeline from a folder or a hub repository; see [`~diffusers.DiffusionPipeline.from_pretrained`].

        Raises:
            CheckpointError: the folder is no CPGG pipeline, is damaged, or holds pickles instead of safetensors.
        """
        kwargs["use_safetensors"] = True
        if "torch_dtype" not in kwargs:
            # transformers would take what the configuration says, which a variant in half precision has written.
            kwargs.setdefault("dtype", torch.float32)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            cls._check_files(folder, given=kwargs.keys())
        # `name` and `owner/name` are hub repositories, unless the owner is a folder that lies here.
        elif folder.exists() or len(folder.parts) > 2 or (len(folder.parts) == 2 and folder.parent.is_dir()):
            raise CheckpointError(
                f"there is no folder {folder}; give the folder that save_pretrained wrote, or a hub repository."
            )
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            if folder.is_dir():
                raise CheckpointError(f"the pipeline in {folder} cannot be loaded ({brief(error)}).") from error
            raise CheckpointError(
                f"there is no folder {folder}, and no pipeline came from the hub repository of that name "
                f"({brief(error)}); check the name, the network and the access rights."
            ) from error

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:  # type: ignore[override]
        """Saves the pipeline as safetensors; see [`~diffusers.DiffusionPipeline.save_pretrained`].

        Raises:
            ValueError: the MAR carries an adapter, beside which its own weights would be left out.
        """
        if getattr(self.mar, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"the MAR carries the adapters {list(self.mar.peft_config)}, which are saved alone: keep them by "
                "pipe.mar.save_pretrained(folder), or remove them by pipe.mar.delete_adapter(name) first."
            )
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def _check_files(cls, folder: Path, given: Collection[str]) -> None:
        """Checks all components in a folder but those that the caller brings along."""
        models = {name: model_class for name, model_class in _MODELS.items() if name not in given}
        expected: dict[str, str | None] = {name: model_class.__name__ for name, model_class in models.items()}
        if "scheduler" not in given:
            expected["scheduler"] = None
        check_index(folder, cls.__name__, expected)
        if "scheduler" not in given:
            read_json(folder / "scheduler" / "scheduler_config.json")
        for name, model_class in models.items():
            check_model(folder / name, model_class)

    def set_scheduler(self, scheduler_class: Any, **overrides: Any) -> None:
        """Replaces the scheduler by one of another class, built for the same diffusion.

        The learned variance is left out: `CPGGDDPMScheduler` alone takes it, others crash on it.

        Args:
            scheduler_class: `DDIMScheduler`, `DPMSolverMultistepScheduler`, ...; for a flow-matching head
                `FlowMatchHeunDiscreteScheduler`, ...
            overrides: settings of that scheduler that differ from the present one's.

        Raises:
            ValueError: it removes noise where the MAR's head gives a flow's velocity, or the other way round.
        """
        config = {key: value for key, value in self.scheduler.config.items() if key != "variance_type"}
        scheduler = scheduler_class.from_config(config, **overrides)
        check_scheduler(self.mar.config.head_type, scheduler)
        self.scheduler = scheduler

    @property
    def data_policy(self) -> str:
        """The strictest policy of the networks: of the data that a generated cine descends from."""
        return strictest(getattr(self, name).config.data_policy for name in _MODELS)

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of the call that runs, or ran last."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """Decoding steps of the call that runs, or ran last, all micro-batches together."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set `pipe._interrupt = True`, which ends the decoding after its step."""
        return self._interrupt

    @torch.no_grad()
    def sample_phenotypes(
        self,
        phenotypes: Any = None,
        num_samples: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> pd.DataFrame:
        """Draws phenotypes alone, the same ones that a call with these arguments would generate cines from.

        Args:
            phenotypes: see `__call__`; what is given comes back exactly.
            num_samples: rows for each row of `phenotypes`.
            generator: see `__call__`.

        Returns:
            B rows, 82 columns, physical units.
        """
        requested = _expand(phenotypes, num_samples)
        streams = _draw_streams(generator, len(requested))[0]
        sampled = self._fill_missing(requested, [phenotype_stream for phenotype_stream, _ in streams])
        self.maybe_free_model_hooks()
        return as_frame(sampled)

    @torch.no_grad()
    def __call__(
        self,
        phenotypes: Any = None,
        num_samples: int | None = None,
        num_decoding_steps: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        fill_missing: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[["CPGGPipeline", int, int, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> CPGGPipelineOutput:
        r"""
        Generates cines.

        Args:
            phenotypes (`dict`, `list`, `pd.DataFrame`, `np.ndarray`, *optional*): what the hearts shall be like, in
                physical units: a dict (`{"LVEF": 30.0, "LVEDV": 220.0}`), a list of dicts, a DataFrame, a (B, 82)
                array or a list of (82,) tensors. NaN or absent = sampled; all of them if nothing is given. Two of a
                chamber's EDV, ESV, SV, EF determine the others.
            num_samples (`int`, defaults to 1): cines for each row of `phenotypes`, row by row.
            num_decoding_steps (`int`, *optional*): passes of the transformer; the pipeline config's (16 by default).
            num_inference_steps (`int`, *optional*): diffusion steps a token; the pipeline config's (100 by default).
            guidance_scale (`float`, *optional*): 1 = no guidance, 0 = unconditional; the pipeline config's by default.
            temperature (`float`, *optional*): scale of the noise that the diffusion steps add; the pipeline config's.
            fill_missing (`bool`, defaults to `True`): whether missing phenotypes are sampled from what is given.
                With False the MAR is told that they are missing.
            generator (`torch.Generator` or a list of them, *optional*): one draws a seed a sample up front; a list
                gives one a sample. A sample depends on its own seed alone: it is the same, bit for bit, in any
                batch.
            latents (`torch.Tensor`, *optional*): (B, C, T', H', W'), the noise that the diffusion starts from.
            output_type (`str`, defaults to `"np"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
            return_dict (`bool`, defaults to `True`): whether to return a [`CPGGPipelineOutput`] or its tuple.
            callback_on_step_end (`Callable`, *optional*): called as `callback(pipe, step, decoding_step, kwargs)`
                after each decoding step of each micro-batch, `step` of `num_timesteps`. `kwargs["latents"]` are the
                micro-batch's standardised latents, 0 where nothing has been drawn; a dict with `"latents"` that it
                returns replaces them. `pipe._interrupt = True` ends the decoding.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): what `kwargs` holds; `"latents"` only.

        Returns:
            [`CPGGPipelineOutput`], or the tuple of its fields.

        Raises:
            PhenotypeError: unknown names, values in wrong units, requests that contradict themselves.
            ValueError: other arguments that do not fit.

        Examples:
        ```py
        >>> import torch
        >>> from cpgg_hf import CPGGPipeline

        >>> pipe = CPGGPipeline.from_pretrained("checkpoints/cpgg-phantom-small")
        >>> output = pipe({"LVEF": 30.0, "LVEDV": 220.0}, generator=torch.Generator().manual_seed(0))
        >>> output.cines.shape, output.phenotypes["LVESV"][0]
        ((1, 50, 96, 96), 154.0)
        ```
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; expected among "
                f"{self._callback_tensor_inputs}."
            )
        guidance_scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        if temperature is None:
            temperature = self.config.temperature if _is_a(self.scheduler, CPGGDDPMScheduler) else 1.0
        _check_positive(or_zero=True, guidance_scale=guidance_scale, temperature=temperature)
        requested = _expand(phenotypes, num_samples)
        if latents is not None and len(latents) != len(requested):
            raise ValueError(f"latents hold {len(latents)} samples; {len(requested)} are asked for.")
        streams, seeds = _draw_streams(generator, len(requested))
        decoding_steps = self.config.num_decoding_steps if num_decoding_steps is None else num_decoding_steps
        self._guidance_scale = guidance_scale
        self._num_timesteps = decoding_steps * -(-len(requested) // self.config.micro_batch_size)
        self._interrupt = False

        conditions = self._fill_missing(requested, [stream for stream, _ in streams]) if fill_missing else requested
        with self.progress_bar(total=self._num_timesteps) as progress_bar:

            def on_step_end(step: int, decoding_step: int, so_far: torch.Tensor) -> torch.Tensor | None:
                progress_bar.update()
                if callback_on_step_end is None:
                    return None
                kwargs = dict.fromkeys(callback_on_step_end_tensor_inputs, so_far)
                return (callback_on_step_end(self, step, decoding_step, kwargs) or {}).get("latents")

            drawn = self._draw_latents(
                conditions,
                [stream for _, stream in streams],
                latents,
                on_step_end,
                num_decoding_steps=decoding_steps,
                num_inference_steps=(
                    self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
                ),
                temperature=temperature,
            )
        cines = drawn if output_type == "latent" else _as_output_type(self._decode(drawn), output_type)
        self.maybe_free_model_hooks()

        frames = self.vae.config.sample_size[0]
        output = CPGGPipelineOutput(
            cines=cines,
            phenotypes=as_frame(conditions),
            spacing_mm=self.config.pixel_spacing_mm,
            frame_time_ms=60000.0 / heart_rate(conditions) / frames,
            seeds=np.array(seeds, dtype=np.int64),
        )
        return output if return_dict else output.to_tuple()  # type: ignore[return-value]

    def _draw_latents(
        self,
        conditions: np.ndarray,
        generators: list[torch.Generator],
        noise: torch.Tensor | None,
        on_step_end: Callable[[int, int, torch.Tensor], torch.Tensor | None],
        **settings: Any,
    ) -> torch.Tensor:
        """Latents (B, C, T', H', W') of (B, 82) phenotypes, micro-batch by padded micro-batch."""
        device, size = self._execution_device, self.config.micro_batch_size
        conditions_on_device = torch.tensor(conditions, dtype=torch.float32, device=device)
        drawn = torch.zeros(len(conditions), *self.vae.latent_size, device=device)
        for start in range(0, len(conditions), size):
            count = min(size, len(conditions) - start)
            rows = [*range(start, start + count), *[start] * (size - count)]

            def callback(decoding_step: int, so_far: torch.Tensor, start=start, count=count) -> torch.Tensor:
                step = start // size * settings["num_decoding_steps"] + decoding_step
                replaced = on_step_end(step, decoding_step, so_far[:count])
                if replaced is not None:
                    so_far = torch.cat([replaced, so_far[count:]])
                if self._interrupt:
                    raise _Interrupted(so_far)
                return so_far

            padding = [torch.Generator(generators[start].device).manual_seed(0) for _ in range(size - count)]
            try:
                latents = self.mar.generate_latents(
                    conditions_on_device[rows],
                    self.scheduler,
                    guidance_scale=self._guidance_scale,
                    generators=[*generators[start : start + count], *padding],
                    latents=None if noise is None else noise[rows],
                    callback=callback,
                    **settings,
                )
            except _Interrupted as interrupted:
                latents = interrupted.latents
            drawn[start : start + count] = latents[:count]
            if self._interrupt:
                break
        return drawn

    def _fill_missing(self, requested: np.ndarray, generators: list[torch.Generator]) -> np.ndarray:
        """(B, 82) with what is NaN drawn to go with the rest, row by row, each from its own generator."""
        filled = requested.copy()
        incomplete = np.flatnonzero(np.isnan(requested).any(axis=1))
        if len(incomplete):
            own = [generators[row] for row in incomplete]
            filled[incomplete] = self.phenotype_vae.sample_conditional(requested[incomplete], generator=own)
        return filled

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Cines (B, T, H, W) float32 in [0, 1] of standardised latents, decoded one by one: always the same shape."""
        cines = []
        for sample in self.vae.unstandardise(latents).to(self.vae.dtype).split(1):
            cine = self.vae.decode(sample).sample[:, 0].float()
            cines.append(((cine + 1) / 2).clamp(0, 1))
        return torch.cat(cines)


def draw_seeds(num_samples: int, generator: torch.Generator | None = None) -> list[int]:
    """The seed of each sample of a call with this generator; the first ones are the same for any `num_samples`."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(2**63 - 1, (num_samples,), generator=generator, device=device).tolist()


def _check_components(**components: Any) -> None:
    for name, component in components.items():
        if not _is_a(component, _COMPONENTS[name]):
            raise TypeError(f"{name} must be a {_COMPONENTS[name].__name__}, given a {type(component).__name__}.")
    phenotype_vae, mar, vae = (components[name] for name in _MODELS)
    check_scheduler(mar.config.head_type, components["scheduler"])
    for name in ("phenotype_mean", "phenotype_sd"):
        ours, theirs = (np.asarray(getattr(model.config, name), dtype=np.float64) for model in (mar, phenotype_vae))
        differing = np.flatnonzero(ours != theirs)
        if len(differing):
            index = differing[0]
            raise ValueError(
                f"mar and phenotype_vae standardise phenotypes differently: {name} of {NAMES[index]} is "
                f"{ours[index]:g} in one and {theirs[index]:g} in the other; take components trained together."
            )
    latent_size = (mar.config.latent_channels, *mar.config.latent_size)
    if latent_size != vae.latent_size:
        raise ValueError(
            f"mar generates latents of {latent_size}, vae decodes {vae.latent_size} (C, T', H', W'); take components "
            "trained together."
        )


def _is_a(component: Any, component_class: type) -> bool:
    """By name: in a hub repository with its own code each component's class comes from a file of its own."""
    return component_class.__name__ in {base.__name__ for base in type(component).__mro__}


def _check_positive(or_zero: bool = False, **settings: Any) -> None:
    for name, value in settings.items():
        if not isinstance(value, Real) or not (0 < float(value) < np.inf or (or_zero and value == 0)):
            raise ValueError(f"{name} must be a positive number{' or 0' if or_zero else ''}, given {value!r}.")


def _expand(phenotypes: Any, num_samples: int | None) -> np.ndarray:
    """A request as (B, 82), each row `num_samples` times, with what the identities determine filled in."""
    num_samples = 1 if num_samples is None else num_samples
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; expected at least 1.")
    array = np.full((1, len(NAMES)), np.nan) if phenotypes is None else complete_identities(as_array(phenotypes))
    return np.repeat(array, num_samples, axis=0)


def _draw_streams(
    generator: torch.Generator | list[torch.Generator] | None, num_samples: int
) -> tuple[list[tuple[torch.Generator, torch.Generator]], list[int]]:
    """Two generators a sample, for its phenotypes and for its cine, and the seed that they follow from.

    Two, so that a cine is the same whether its phenotypes were sampled or given.
    """
    if isinstance(generator, list):
        if len(generator) != num_samples:
            raise ValueError(f"generator lists {len(generator)} generators; {num_samples} samples are asked for.")
        sources = generator
    else:
        device = "cpu" if generator is None else generator.device
        sources = [torch.Generator(device).manual_seed(seed) for seed in draw_seeds(num_samples, generator)]
    streams = []
    for source in sources:
        for_phenotypes, for_cine = (torch.Generator(source.device).manual_seed(one) for one in draw_seeds(2, source))
        streams.append((for_phenotypes, for_cine))
    return streams, [source.initial_seed() for source in sources]


def _as_output_type(cines: torch.Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return cines
    array = cines.cpu().numpy()
    if output_type == "np":
        return array
    pictures = np.round(array * 255).astype(np.uint8)
    return [[PIL.Image.fromarray(frame, mode="L") for frame in cine] for cine in pictures]
