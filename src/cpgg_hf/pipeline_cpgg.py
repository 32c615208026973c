"""The two stages of CPGG in one diffusers pipeline (arXiv 2505.03426, figure 1): phenotypes first, then a cine.

`CPGGPhenotypeVAE` samples the phenotypes that were not given, `CPGGMARModel` generates latents from them, and
`AutoencoderKLCPGG` decodes the latents into a cine of one heart beat.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from safetensors import SafetensorError
from transformers import PreTrainedModel

from cpgg_hf.cine import from_network
from cpgg_hf.data_policy import strictest
from cpgg_hf.errors import CheckpointError, brief
from cpgg_hf.hub.mixin import HubPolicyMixin
from cpgg_hf.hub.reading import hub_problem, is_repository_name
from cpgg_hf.models.generators import given_generators
from cpgg_hf.models.guidance import Guidance
from cpgg_hf.models.pipeline_files import check_pipeline
from cpgg_hf.models.registration import register
from cpgg_hf.models.settings import GenerationSettings
from cpgg_hf.models.token_diffusion import clips_latents
from cpgg_hf.phenotypes import NAMES, as_array, as_frame, complete_identities, heart_rate, row_names

register()  # so that a saved pipeline names this package, whichever module was imported first

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
_MODELS = {"phenotype_vae": "CPGGPhenotypeVAE", "mar": "CPGGMARModel", "vae": "AutoencoderKLCPGG"}
_DEFAULTS = {**vars(GenerationSettings()), "pixel_spacing_mm": 1.8, "micro_batch_size": 8}
_COMPONENTS = _MODELS | {"scheduler": "SchedulerMixin"}


@dataclass
class CPGGPipelineOutput(BaseOutput):
    """Output of `CPGGPipeline`.

    Args:
        cines (`np.ndarray`): (B, T, H, W) float32 in [0, 1] for `output_type="np"`; the same as a tensor for `"pt"`;
            T grey images per cine for `"pil"`; standardised latents (B, C, T', H', W') for `"latent"`.
        phenotypes (`pd.DataFrame`): B rows, 82 columns in physical units: the condition of each cine. NaN = missing
            for the MAR as well (`fill_missing=False`).
        spacing_mm (`float`): pixel size of the cines.
        frame_time_ms (`np.ndarray`): (B,) time from one frame to the next: RR / T with RR = 60000 / heart rate and
            heart rate = 1000 CO / SV of the phenotypes; NaN where these are missing.
        seeds (`np.ndarray`): (B,) int64. `generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds]`
            draws the same samples again; -1 where the given generator had been used before, so that its seed does not.
    """

    cines: Any
    phenotypes: pd.DataFrame
    spacing_mm: float
    frame_time_ms: np.ndarray
    seeds: np.ndarray


class _Interrupted(Exception):  # noqa: N818 (not an error: how a callback stops the MAR's decoding)
    """Carries the latents of the micro-batch in which a callback interrupted the pipeline."""

    def __init__(self, latents: torch.Tensor):
        super().__init__()
        self.latents = latents


class CPGGPipeline(HubPolicyMixin, DiffusionPipeline):  # type: ignore[misc]
    r"""
    Generates four-chamber cine cardiac MRI from cardiac phenotypes.

    This pipeline inherits from [`~diffusers.DiffusionPipeline`]: see there for loading, saving, devices and
    offloading. It is saved and loaded as safetensors only.

    Args:
        phenotype_vae ([`CPGGPhenotypeVAE`]): samples the phenotypes that a request leaves open.
        mar ([`CPGGMARModel`]): generates standardised latents from phenotypes; `pipe.mar.load_adapter(folder_or_repo)`
            adds a LoRA.
        vae ([`AutoencoderKLCPGG`]): decodes latents into cines.
        scheduler ([`CPGGDDPMScheduler`]): the diffusion chain of a token; see `set_scheduler` for others. A MAR with a
            flow-matching head needs diffusers' `FlowMatchEulerDiscreteScheduler`, where 8 to 25 steps are enough.
        guidance_scale (`float`, defaults to 3.0): default of calls; the paper's value.
        temperature (`float`, defaults to 1.0): default of calls with a `CPGGDDPMScheduler`; other schedulers only
            support 1.
        num_decoding_steps (`int`, defaults to 16): default of calls.
        num_inference_steps (`int`, defaults to 100): default of calls.
        pixel_spacing_mm (`float`, defaults to 1.8): pixel size of the cines that the models were trained on.
        micro_batch_size (`int`, defaults to 8): number of samples that the MAR always processes at once. Kernels round
            differently at different shapes, so incomplete micro-batches are padded and a sample does not depend on
            the size of its batch. 1 is best on a CPU; a GPU is faster with more. Samples of different values differ
            by rounding.

    Settings that are not given are those of the pipeline that had the MAR before, if any.

    Raises:
        TypeError: a component of another class.
        ValueError: components that do not belong together, or settings out of range.
    """

    config: Any  # attributes are the parameters above
    phenotype_vae: Any
    mar: Any
    vae: Any
    scheduler: Any
    _guidance_scale: Any
    _num_timesteps: int
    _interrupt: bool

    model_cpu_offload_seq = "phenotype_vae->mar->vae"  # type: ignore[assignment]
    _optional_components: list[str] = []  # noqa: RUF012
    _exclude_from_cpu_offload = ["phenotype_vae"]  # noqa: RUF012 - small; used in float64
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        phenotype_vae: ModelMixin,
        mar: PreTrainedModel,
        vae: ModelMixin,
        scheduler: SchedulerMixin,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        num_decoding_steps: int | None = None,
        num_inference_steps: int | None = None,
        pixel_spacing_mm: float | None = None,
        micro_batch_size: int | None = None,
    ):
        super().__init__()
        _check_components(phenotype_vae=phenotype_vae, mar=mar, vae=vae, scheduler=scheduler)
        given = {
            "guidance_scale": guidance_scale,
            "temperature": temperature,
            "num_decoding_steps": num_decoding_steps,
            "num_inference_steps": num_inference_steps,
            "pixel_spacing_mm": pixel_spacing_mm,
            "micro_batch_size": micro_batch_size,
        }
        # Another pipeline's settings stay with its MAR, so that `CPGGPipeline(**pipe.components)` draws the same.
        settings = {**_DEFAULTS, **getattr(mar, "_pipeline_settings", {})}
        settings |= {name: value for name, value in given.items() if value is not None}
        GenerationSettings.of(settings)
        if not isinstance(settings["guidance_scale"], Real):
            raise ValueError(
                f"the default guidance_scale must be a number, given {guidance_scale!r}; pass guidance rules to calls."
            )
        spacing_mm, size = settings["pixel_spacing_mm"], settings["micro_batch_size"]
        if not isinstance(spacing_mm, Real) or not 0 < float(spacing_mm) < np.inf:
            raise ValueError(f"pixel_spacing_mm must be a positive number, given {spacing_mm!r}.")
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"micro_batch_size must be a positive integer, given {size!r}.")
        self.register_modules(phenotype_vae=phenotype_vae, mar=mar, vae=vae, scheduler=scheduler)
        self.register_to_config(**settings)
        mar._pipeline_settings = settings  # type: ignore[assignment]
        self._guidance_scale = settings["guidance_scale"]
        self._num_timesteps = 0
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Loads a pipeline from a folder or a Hub repository; see [`~diffusers.DiffusionPipeline.from_pretrained`].

        Weights are loaded as float32 unless `torch_dtype` is given.

        Raises:
            CheckpointError: the folder is not a CPGG pipeline, is damaged, or contains pickles instead of safetensors;
                the Hub refused, or could not be reached.
        """
        kwargs["use_safetensors"] = True
        if "torch_dtype" not in kwargs:
            # transformers would take the dtype of the configuration, which a half-precision variant has changed.
            kwargs.setdefault("dtype", torch.float32)
        name, folder = str(pretrained_model_name_or_path), Path(pretrained_model_name_or_path)
        on_hub = not folder.is_dir()
        # `name` and `owner/name` are Hub repositories, unless a local folder is called like the owner.
        if on_hub and (
            folder.exists() or not is_repository_name(name) or (len(folder.parts) == 2 and folder.parent.is_dir())
        ):
            raise CheckpointError(
                f"{name} is neither a folder nor the name of a Hub repository; give the folder that save_pretrained "
                "wrote, or owner/name."
            )
        try:
            folder = Path(cls.download(name, **kwargs)) if on_hub else folder
            check_pipeline(folder, cls.__name__, given=kwargs.keys())
            pipe = super().from_pretrained(folder, **kwargs)
        except CheckpointError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            problem = hub_problem(error) if on_hub else None
            raise CheckpointError(
                f"cannot load the pipeline {name}: {problem or brief(error)}; download it again, or check the library "
                "versions."
            ) from error
        pipe.register_to_config(_name_or_path=name)
        return pipe

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:  # type: ignore[override]
        """Saves the pipeline as safetensors; see [`~diffusers.DiffusionPipeline.save_pretrained`].

        Raises:
            ValueError: the MAR carries an adapter, because its own weights would then not be saved.
        """
        if getattr(self.mar, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"the MAR carries the adapters {list(self.mar.peft_config)}, which a pipeline does not save; keep "
                "them with pipe.mar.save_pretrained(folder), or remove them with pipe.mar.delete_adapter(name) first."
            )
        super().save_pretrained(save_directory, **kwargs)

    def set_scheduler(self, scheduler_class: Any, **overrides: Any) -> None:
        """Replaces the scheduler by one of another class with the diffusion settings of the MAR.

        The learned variance is dropped: only `CPGGDDPMScheduler` supports it. Schedulers that do not clip latents
        leave out the noisiest timestep (`timestep_spacing="leading"`), at which a head's estimate diverges.

        Args:
            scheduler_class: `DDIMScheduler`, `DPMSolverMultistepScheduler`, ...; for a flow-matching head
                `FlowMatchHeunDiscreteScheduler`, ...
            overrides: settings of the new scheduler that differ from the present one's.

        Raises:
            ValueError: the scheduler does not fit the MAR's head; see `mar.check_scheduler`.
        """
        mar = self.mar.config
        config = {key: value for key, value in self.scheduler.config.items() if key != "variance_type"}
        config["num_train_timesteps"] = mar.num_train_timesteps
        if mar.head_type == "diffusion":
            own = scheduler_class.__name__ == "CPGGDDPMScheduler"
            spacing = "linspace" if own or clips_latents(scheduler_class, config) else "leading"
            config |= {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon", "timestep_spacing": spacing}
        scheduler = scheduler_class.from_config(config, **overrides)
        self.mar.check_scheduler(scheduler)
        self.scheduler = scheduler

    def generation_settings(self, **overrides: Any) -> GenerationSettings:
        """The settings of a call with these arguments (None = default), for `pipe(**vars(settings))`."""
        if overrides.get("temperature") is None and not _is_a(self.scheduler, "CPGGDDPMScheduler"):
            overrides["temperature"] = 1.0
        return GenerationSettings.of(self.config, **overrides)

    @property
    def data_policy(self) -> str:
        """The strictest data policy of the networks: it applies to generated cines as well."""
        return strictest(getattr(self, name).config.data_policy for name in _MODELS)

    @property
    def guidance_scale(self) -> Any:
        """The guidance scale (or guidance rule) of the running or last micro-batch."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """Number of decoding steps of the running or last call, over all micro-batches."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set `pipe._interrupt = True`, which ends the decoding after the current step."""
        return self._interrupt

    @torch.no_grad()
    def sample_phenotypes(
        self,
        phenotypes: Any = None,
        num_samples: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> pd.DataFrame:
        """Samples only phenotypes: the same ones that a call with these arguments would generate cines from.

        Args:
            phenotypes: see `__call__`; given values are returned exactly.
            num_samples: number of rows per row of `phenotypes`.
            generator: see `__call__`.

        Returns:
            B rows, 82 columns, physical units.

        Raises:
            PhenotypeError: unknown names, values in wrong units, contradictory values.
        """
        requested = _expand(phenotypes, num_samples)
        generators = _sample_generators(generator, len(requested))[0]
        sampled = self._fill_missing(requested, [of_phenotypes for of_phenotypes, _ in generators])
        self.maybe_free_model_hooks()
        return as_frame(sampled, row_names(phenotypes, num_samples))

    @torch.no_grad()
    def __call__(
        self,
        phenotypes: Any = None,
        num_samples: int | None = None,
        num_decoding_steps: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | Guidance | None = None,
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
            phenotypes (`dict`, `list`, `pd.DataFrame`, `np.ndarray`, *optional*): requested phenotypes in physical
                units: a dict (`{"LVEF": 30.0, "LVEDV": 220.0}`), a list of dicts, a DataFrame, a (B, 82) array or a
                list of (82,) tensors. NaN or absent values are sampled; by default all are. Two of a chamber's EDV,
                ESV, SV and EF determine the others.
            num_samples (`int`, defaults to 1): number of cines per row of `phenotypes`, in the order of the rows.
            num_decoding_steps (`int`, *optional*): passes of the transformer; default from the config (16).
            num_inference_steps (`int`, *optional*): diffusion steps per token; default from the config (100).
            guidance_scale (`float` or [`Guidance`], *optional*): 1 = no guidance, 0 = unconditional, or a guidance
                rule; default from the config (3).
            temperature (`float`, *optional*): scale of the noise that the diffusion steps add; default from the
                config (1).
            fill_missing (`bool`, defaults to `True`): whether missing phenotypes are sampled given the others. If
                False, the MAR treats them as missing.
            generator (`torch.Generator` or a list of them, *optional*): a list holds one per sample; a single one
                draws the first sample as in a list, and seeds of the others. A sample only depends on its own seed: it
                is identical in any batch.
            latents (`torch.Tensor`, *optional*): (B, C, T', H', W'), the noise that the diffusion starts from.
            output_type (`str`, defaults to `"np"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
            return_dict (`bool`, defaults to `True`): whether to return a [`CPGGPipelineOutput`] or a tuple.
            callback_on_step_end (`Callable`, *optional*): called as `callback(pipe, step, decoding_step, kwargs)`
                after each decoding step of each micro-batch; `step` counts to `num_timesteps`. `kwargs["latents"]` are
                the standardised latents of the micro-batch, 0 where nothing has been drawn. It may return a dict:
                `"latents"` replaces these latents, `"guidance_scale"` changes the guidance of the remaining steps of
                this micro-batch. `pipe._interrupt = True` ends the decoding.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): names in `kwargs`; only `"latents"`.

        Returns:
            [`CPGGPipelineOutput`], or the tuple of its fields.

        Raises:
            PhenotypeError: unknown names, values in wrong units, contradictory values.
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
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, given {output_type!r}.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs must be among {self._callback_tensor_inputs}, given "
                f"{sorted(unknown)}."
            )
        settings = self.generation_settings(
            guidance_scale=guidance_scale,
            temperature=temperature,
            num_decoding_steps=num_decoding_steps,
            num_inference_steps=num_inference_steps,
        )
        requested = _expand(phenotypes, num_samples)
        expected = (len(requested), *self.vae.latent_size)
        if latents is not None and tuple(latents.shape) != expected:
            raise ValueError(f"latents must have shape {expected}, given {tuple(latents.shape)}.")
        generators, seeds = _sample_generators(generator, len(requested))
        self._num_timesteps = settings.num_decoding_steps * -(-len(requested) // self.config.micro_batch_size)
        self._interrupt = False

        of_phenotypes, of_cines = map(list, zip(*generators, strict=True))
        conditions = self._fill_missing(requested, of_phenotypes) if fill_missing else requested
        with self.progress_bar(total=self._num_timesteps) as progress_bar:

            def on_step_end(step: int, decoding_step: int, so_far: torch.Tensor) -> dict[str, Any]:
                progress_bar.update()
                if callback_on_step_end is None:
                    return {}
                kwargs = dict.fromkeys(callback_on_step_end_tensor_inputs, so_far)
                return callback_on_step_end(self, step, decoding_step, kwargs) or {}

            drawn = self._draw_latents(conditions, of_cines, latents, on_step_end, settings)
        cines = drawn if output_type == "latent" else _as_output_type(self._decode(drawn), output_type)
        self.maybe_free_model_hooks()

        frames = self.vae.config.sample_size[0]
        output = CPGGPipelineOutput(
            cines=cines,
            phenotypes=as_frame(conditions, row_names(phenotypes, num_samples)),
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
        on_step_end: Callable[[int, int, torch.Tensor], dict[str, Any]],
        settings: GenerationSettings,
    ) -> torch.Tensor:
        """Latents (B, C, T', H', W') of (B, 82) phenotypes, one padded micro-batch after the other."""
        device, size = self._execution_device, self.config.micro_batch_size
        conditions_on_device = torch.tensor(conditions, dtype=torch.float32, device=device)
        drawn = torch.zeros(len(conditions), *self.vae.latent_size, device=device)
        for start in range(0, len(conditions), size):
            count = min(size, len(conditions) - start)
            rows = [*range(start, start + count), *[start] * (size - count)]
            self._guidance_scale = settings.guidance_scale  # a callback may have changed the last micro-batch's

            def callback(decoding_step: int, so_far: torch.Tensor, start=start, count=count) -> dict[str, Any]:
                step = start // size * settings.num_decoding_steps + decoding_step
                changes = on_step_end(step, decoding_step, so_far[:count])
                if "latents" in changes:
                    so_far = torch.cat([changes["latents"], so_far[count:]])
                if self._interrupt:
                    raise _Interrupted(so_far)
                self._guidance_scale = changes.get("guidance_scale", self._guidance_scale)
                return {"latents": so_far, "guidance_scale": self._guidance_scale}

            padding = [torch.Generator(generators[start].device).manual_seed(0) for _ in range(size - count)]
            try:
                latents = self.mar.generate_latents(
                    conditions_on_device[rows],
                    self.scheduler,
                    generators=[*generators[start : start + count], *padding],
                    latents=None if noise is None else noise[rows],
                    callback=callback,
                    **vars(settings),
                )
            except _Interrupted as interrupted:
                latents = interrupted.latents
            drawn[start : start + count] = latents[:count]
            if self._interrupt:
                break
        return drawn

    def _fill_missing(self, requested: np.ndarray, generators: list[torch.Generator]) -> np.ndarray:
        """(B, 82) with NaN replaced by values sampled given the others, each row from its own generator."""
        filled = requested.copy()
        incomplete = np.flatnonzero(np.isnan(requested).any(axis=1))
        if len(incomplete):
            own = [generators[row] for row in incomplete]
            filled[incomplete] = self.phenotype_vae.sample_conditional(requested[incomplete], generator=own)
        return filled

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Cines (B, T, H, W) float32 in [0, 1] of standardised latents, decoded one by one: always the same shape."""
        samples = self.vae.unstandardise(latents).to(self.vae.dtype).split(1)
        return torch.cat([from_network(self.vae.decode(sample).sample) for sample in samples])


def _check_components(**components: Any) -> None:
    for name, component in components.items():
        if not _is_a(component, _COMPONENTS[name]):
            raise TypeError(f"{name} must be of the class {_COMPONENTS[name]}, given {type(component).__name__}.")
    phenotype_vae, mar, vae = (components[name] for name in _MODELS)
    mar.check_scheduler(components["scheduler"])
    for name in ("phenotype_mean", "phenotype_sd"):
        ours, theirs = (np.asarray(getattr(model.config, name), dtype=np.float64) for model in (mar, phenotype_vae))
        differing = np.flatnonzero(ours != theirs)
        if len(differing):
            index = differing[0]
            raise ValueError(
                f"mar and phenotype_vae standardise phenotypes differently: {name} of {NAMES[index]} is "
                f"{ours[index]:g} and {theirs[index]:g}; use components that were trained together."
            )
    latent_size = (mar.config.latent_channels, *mar.config.latent_size)
    if latent_size != vae.latent_size:
        raise ValueError(
            f"mar generates latents of {latent_size}, vae decodes {vae.latent_size} (C, T', H', W'); use components "
            "that were trained together."
        )


def _is_a(component: Any, class_name: str) -> bool:
    """Compares names: in a Hub repository with its own code each component's class is defined in a separate file."""
    return class_name in {base.__name__ for base in type(component).__mro__}


def _expand(phenotypes: Any, num_samples: int | None) -> np.ndarray:
    """A request as (B, 82), each row `num_samples` times, completed by the identities."""
    num_samples = 1 if num_samples is None else num_samples
    if not isinstance(num_samples, Integral) or num_samples < 1:
        raise ValueError(f"num_samples must be a whole number of at least 1, given {num_samples!r}.")
    array = np.full((1, len(NAMES)), np.nan) if phenotypes is None else complete_identities(as_array(phenotypes))
    return np.repeat(array, num_samples, axis=0)


def _sample_generators(
    generator: torch.Generator | list[torch.Generator] | None, num_samples: int
) -> tuple[list[tuple[torch.Generator, ...]], list[int]]:
    """Two generators per sample, for its phenotypes and for its cine, and the seed that both derive from (-1 = none).

    Two generators, so that sampled phenotypes and the same phenotypes given by the user lead to the same cine. A
    single generator draws the first sample, as in a list, and then seeds of the others.
    """
    generators, seeds = [], []
    for one in given_generators(generator, num_samples):
        fresh = torch.equal(one.get_state(), torch.Generator(one.device).manual_seed(one.initial_seed()).get_state())
        seeds.append(one.initial_seed() if fresh else -1)
        generators.append(tuple(_seeded_by(one, 2)))
    single = generator if isinstance(generator, torch.Generator) else torch.default_generator
    for one in _seeded_by(single, num_samples - len(generators)):
        seeds.append(one.initial_seed())
        generators.append(tuple(_seeded_by(one, 2)))
    return generators, seeds


def _seeded_by(generator: torch.Generator, count: int) -> list[torch.Generator]:
    """New generators, on the same device, whose seeds are drawn from a generator."""
    seeds = torch.randint(2**63 - 1, (count,), generator=generator, device=generator.device).tolist()
    return [torch.Generator(generator.device).manual_seed(seed) for seed in seeds]


def _as_output_type(cines: torch.Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return cines
    array = cines.cpu().numpy()
    if output_type == "np":
        return array
    pictures = np.round(array * 255).astype(np.uint8)
    return [[PIL.Image.fromarray(frame, mode="L") for frame in cine] for cine in pictures]
