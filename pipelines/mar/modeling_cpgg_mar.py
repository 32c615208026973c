"""CPGGMARModel of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.

Generated from the sources of cpgg_hf by `cpgg export-remote-code`, do not edit. Apache-2.0.
"""

import csv
import inspect
import math
import numpy as np
import torch
import torch.nn.functional as F
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from functools import cache
from huggingface_hub.dataclasses import strict
from numbers import Real
from statistics import NormalDist
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs
from typing import Any, NamedTuple, TypeAlias


# ---- cpgg_hf.phenotypes.schema


# AHA segments that a four-chamber plane cuts, base to apex (inferoseptal, then apical septal; anterolateral, then
# apical lateral).
SEPTAL_SEGMENTS = (3, 9, 14)


LATERAL_SEGMENTS = (6, 12, 16)


_IN_FOUR_CHAMBER_VIEW = frozenset(
    ["LVEDV", "LVESV", "LVSV", "LVEF", "LVCO", "RVEDV", "RVESV", "RVSV", "RVEF"]
    + [f"{chamber}{quantity}" for chamber in ("LA", "RA") for quantity in ("V_max", "V_min", "SV", "EF")]
    + ["DAo_max_area", "DAo_min_area"]
    + [f"WT_AHA_{segment}" for segment in SEPTAL_SEGMENTS + LATERAL_SEGMENTS]
    + [f"Ell_{segment}" for segment in range(1, 7)]
    + ["Ell_Global"]
)


@dataclass(frozen=True)
class Phenotype:

    field_id: int
    name: str
    short_name: str
    unit: str
    mean: float
    sd: float
    minimum: float
    maximum: float
    source: str
    measurable: bool


def _read_table() -> tuple[Phenotype, ...]:
    table = """\
field_id,name,short_name,unit,structure,mean,sd,min_plausible,max_plausible,source
24100,LV end diastolic volume,LVEDV,mL,LV,143.3,33.9,40,500,Petersen2017 Table 12 via public code (M/F pooled 46/54)
24101,LV end systolic volume,LVESV,mL,LV,58.2,16.8,8,430,Petersen2017 Table 12 via public code (M/F pooled 46/54)
24102,LV stroke volume,LVSV,mL,LV,84.7,20.0,12,220,Petersen2017 Table 12 via public code (M/F pooled 46/54)
24103,LV ejection fraction,LVEF,%,LV,59.6,5.2,5,90,Petersen2017 abstract (M/F pooled)
24104,LV cardiac output,LVCO,L/min,LV,5.34,1.25,1.0,14.0,derived: LVSV x HR; HR 63+-10 bpm assumed
24105,LV myocardial mass,LVM,g,LV,85.6,23.7,25,350,derived: Petersen2017 abstract 53/42 g/m2 x BSA 1.95/1.68 assumed
24106,RV end diastolic volume,RVEDV,mL,RV,153.9,39.7,40,500,"assumed (from memory of Petersen 2017, not checked)"
24107,RV end systolic volume,RVESV,mL,RV,68.8,23.8,10,430,"assumed (from memory of Petersen 2017, not checked)"
24108,RV stroke volume,RVSV,mL,RV,85.1,20.3,12,220,"assumed (from memory of Petersen 2017, not checked)"
24109,RV ejection fraction,RVEF,%,RV,56.2,6.3,5,90,"assumed (from memory of Petersen 2017, not checked)"
24110,LA maximum volume,LAV_max,mL,LA,65.1,18.0,10,350,"Funk2018 (182 healthy, long-axis cine; pooled)"
24111,LA minimum volume,LAV_min,mL,LA,22.4,8.6,2,320,Funk2018 (182 healthy; pooled)
24112,LA stroke volume,LASV,mL,LA,42.7,12.3,3,160,"derived: LAV_max-LAV_min, r=0.8 assumed"
24113,LA ejection fraction,LAEF,%,LA,65.6,8.0,3,90,derived mean (Funk2018); SD assumed; UKB is older so expect lower
24114,RA maximum volume,RAV_max,mL,RA,82.0,25.0,15,350,assumed (single-plane 4ch)
24115,RA minimum volume,RAV_min,mL,RA,45.0,18.0,5,320,assumed (single-plane 4ch)
24116,RA stroke volume,RASV,mL,RA,37.0,12.0,3,180,assumed; = RAV_max-RAV_min
24117,RA ejection fraction,RAEF,%,RA,45.1,9.0,3,85,assumed; = RASV/RAV_max
24118,Ascending aorta maximum area,AAo_max_area,mm2,AAo,897.0,198.0,200,2400,derived: UKB diameter M 34.4+-3.5 F 31.5+-3.2 mm (n=44799; AHA abstract 16628); +-4.2% pulsation
24119,Ascending aorta minimum area,AAo_min_area,mm2,AAo,825.0,182.0,180,2350,derived: UKB diameter M 34.4+-3.5 F 31.5+-3.2 mm (n=44799; AHA abstract 16628); +-4.2% pulsation
24120,Ascending aorta distensibility,AAo_distensibility,1e-3/mmHg,AAo,1.94,1.32,0.05,15,Cecelja2022 (UKB n=8435; M/F pooled)
24121,Descending aorta maximum area,DAo_max_area,mm2,DAo,462.0,93.0,120,1600,"assumed: diameter 23.5+-2.4 mm, between Davis2014 CMR (M20.6 F18.9) and Framingham CT (M25.8 F23.1)"
24122,Descending aorta minimum area,DAo_min_area,mm2,DAo,414.0,84.0,110,1550,"assumed: diameter 23.5+-2.4 mm, between Davis2014 CMR (M20.6 F18.9) and Framingham CT (M25.8 F23.1)"
24123,Descending aorta distensibility,DAo_distensibility,1e-3/mmHg,DAo,2.5,1.2,0.05,15,"assumed (larger than ascending, cf. Bell2014 area strain)"
24124,LV mean myocardial wall thickness AHA 1,WT_AHA_1,mm,LV wall,6.0,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24125,LV mean myocardial wall thickness AHA 2,WT_AHA_2,mm,LV wall,7.0,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24126,LV mean myocardial wall thickness AHA 3,WT_AHA_3,mm,LV wall,7.0,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24127,LV mean myocardial wall thickness AHA 4,WT_AHA_4,mm,LV wall,6.2,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24128,LV mean myocardial wall thickness AHA 5,WT_AHA_5,mm,LV wall,5.9,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24129,LV mean myocardial wall thickness AHA 6,WT_AHA_6,mm,LV wall,5.8,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24130,LV mean myocardial wall thickness AHA 7,WT_AHA_7,mm,LV wall,5.2,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24131,LV mean myocardial wall thickness AHA 8,WT_AHA_8,mm,LV wall,6.0,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24132,LV mean myocardial wall thickness AHA 9,WT_AHA_9,mm,LV wall,6.7,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24133,LV mean myocardial wall thickness AHA 10,WT_AHA_10,mm,LV wall,5.8,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24134,LV mean myocardial wall thickness AHA 11,WT_AHA_11,mm,LV wall,5.2,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24135,LV mean myocardial wall thickness AHA 12,WT_AHA_12,mm,LV wall,5.2,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24136,LV mean myocardial wall thickness AHA 13,WT_AHA_13,mm,LV wall,5.1,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24137,LV mean myocardial wall thickness AHA 14,WT_AHA_14,mm,LV wall,5.6,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24138,LV mean myocardial wall thickness AHA 15,WT_AHA_15,mm,LV wall,5.0,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24139,LV mean myocardial wall thickness AHA 16,WT_AHA_16,mm,LV wall,4.9,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24140,LV mean myocardial wall thickness global,WT_Global,mm,LV wall,5.76,1.11,2,25,Kawel2012 (MESA mid-cavity mean; M/F pooled); UKB max WT is 9.40+-1.62 (OpenHeart2023)
24141,LV circumferential strain AHA 1,Ecc_AHA_1,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24142,LV circumferential strain AHA 2,Ecc_AHA_2,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24143,LV circumferential strain AHA 3,Ecc_AHA_3,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24144,LV circumferential strain AHA 4,Ecc_AHA_4,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24145,LV circumferential strain AHA 5,Ecc_AHA_5,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24146,LV circumferential strain AHA 6,Ecc_AHA_6,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24147,LV circumferential strain AHA 7,Ecc_AHA_7,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24148,LV circumferential strain AHA 8,Ecc_AHA_8,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24149,LV circumferential strain AHA 9,Ecc_AHA_9,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24150,LV circumferential strain AHA 10,Ecc_AHA_10,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24151,LV circumferential strain AHA 11,Ecc_AHA_11,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24152,LV circumferential strain AHA 12,Ecc_AHA_12,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24153,LV circumferential strain AHA 13,Ecc_AHA_13,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24154,LV circumferential strain AHA 14,Ecc_AHA_14,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24155,LV circumferential strain AHA 15,Ecc_AHA_15,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24156,LV circumferential strain AHA 16,Ecc_AHA_16,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24157,LV circumferential strain global,Ecc_Global,%,LV wall,-22.33,3.35,-40,0,OpenHeart2023 scoliosis paper table (UKB n=38319)
24158,LV radial strain AHA 1,Err_AHA_1,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24159,LV radial strain AHA 2,Err_AHA_2,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24160,LV radial strain AHA 3,Err_AHA_3,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24161,LV radial strain AHA 4,Err_AHA_4,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24162,LV radial strain AHA 5,Err_AHA_5,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24163,LV radial strain AHA 6,Err_AHA_6,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24164,LV radial strain AHA 7,Err_AHA_7,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24165,LV radial strain AHA 8,Err_AHA_8,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24166,LV radial strain AHA 9,Err_AHA_9,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24167,LV radial strain AHA 10,Err_AHA_10,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24168,LV radial strain AHA 11,Err_AHA_11,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24169,LV radial strain AHA 12,Err_AHA_12,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24170,LV radial strain AHA 13,Err_AHA_13,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24171,LV radial strain AHA 14,Err_AHA_14,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24172,LV radial strain AHA 15,Err_AHA_15,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24173,LV radial strain AHA 16,Err_AHA_16,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24174,LV radial strain global,Err_Global,%,LV wall,45.0,8.31,0,120,OpenHeart2023 scoliosis paper table (UKB n=38319)
24175,LV longitudinal strain Segment 1,Ell_1,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24176,LV longitudinal strain Segment 2,Ell_2,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24177,LV longitudinal strain Segment 3,Ell_3,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24178,LV longitudinal strain Segment 4,Ell_4,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24179,LV longitudinal strain Segment 5,Ell_5,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24180,LV longitudinal strain Segment 6,Ell_6,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24181,LV longitudinal strain global,Ell_Global,%,LV wall,-18.5,2.76,-40,0,OpenHeart2023 scoliosis paper table (UKB n=38319)
"""
    return tuple(
        Phenotype(
            field_id=int(row["field_id"]),
            name=row["name"],
            short_name=row["short_name"],
            unit=row["unit"],
            mean=float(row["mean"]),
            sd=float(row["sd"]),
            minimum=float(row["min_plausible"]),
            maximum=float(row["max_plausible"]),
            source=row["source"],
            measurable=row["short_name"] in _IN_FOUR_CHAMBER_VIEW,
        )
        for row in csv.DictReader(table.splitlines())
    )


PHENOTYPES: tuple[Phenotype, ...] = _read_table()


# ---- cpgg_hf.models.configuration_cpgg_mar


@strict
class CPGGMARConfig(PreTrainedConfig):

    model_type = "cpgg_mar"

    num_phenotypes: int = 82
    phenotype_mean: list[float | int] | None = None
    phenotype_sd: list[float | int] | None = None
    latent_channels: int = 16
    latent_size: list[int] | tuple[int, ...] = (25, 12, 12)
    patch_size: list[int] | tuple[int, ...] = (5, 2, 2)
    encoder_width: int = 768
    encoder_depth: int = 12
    decoder_width: int = 768
    decoder_depth: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float | int = 4.0
    num_condition_tokens: int = 64
    condition_projection: str = "linear"
    head_type: str = "diffusion"
    head_width: int = 1024
    head_depth: int = 3
    num_train_timesteps: int = 1000
    timesteps_per_token: int = 4
    mask_ratio_minimum: float | int = 0.7
    mask_ratio_mean: float | int = 1.0
    mask_ratio_sd: float | int = 0.25
    condition_dropout: float | int = 0.1
    dropout: float | int = 0.1
    layer_norm_eps: float = 1e-6
    data_policy: str | None = None

    def __post_init__(self, **kwargs):
        self.latent_size, self.patch_size = tuple(self.latent_size), tuple(self.patch_size)
        if self.phenotype_mean is None or self.phenotype_sd is None:
            if self.phenotype_mean is None:
                self.phenotype_mean = [float(phenotype.mean) for phenotype in PHENOTYPES]
            if self.phenotype_sd is None:
                self.phenotype_sd = [float(phenotype.sd) for phenotype in PHENOTYPES]
        super().__post_init__(**kwargs)

    def validate_geometry(self):
        if len(self.latent_size) != 3 or len(self.patch_size) != 3:
            raise ValueError(
                f"latent_size and patch_size must be (frames, rows, columns), given {self.latent_size} and "
                f"{self.patch_size}."
            )
        if any(size % patch for size, patch in zip(self.latent_size, self.patch_size, strict=True)):
            raise ValueError(
                f"latent_size must be a multiple of patch_size {self.patch_size}, given {self.latent_size}."
            )
        for name in ("encoder_width", "decoder_width"):
            if getattr(self, name) % self.num_attention_heads:
                raise ValueError(
                    f"{name} must be a multiple of num_attention_heads {self.num_attention_heads}, given "
                    f"{getattr(self, name)}."
                )
        if min(self.encoder_depth, self.decoder_depth, self.num_condition_tokens) < 1:
            raise ValueError("encoder_depth, decoder_depth and num_condition_tokens must be at least 1.")

    def validate_phenotype_scaler(self):
        mean, sd = self.phenotype_mean or [], self.phenotype_sd or []
        if (len(mean), len(sd)) != (self.num_phenotypes, self.num_phenotypes):
            raise ValueError(
                f"phenotype_mean and phenotype_sd must have num_phenotypes {self.num_phenotypes} values, given "
                f"{len(mean)} and {len(sd)}."
            )
        if min(sd) <= 0:
            raise ValueError(f"phenotype_sd must be positive, given a value of {min(sd)}.")

    def validate_choices(self):
        if self.condition_projection not in ("linear", "mlp"):
            raise ValueError(f'condition_projection must be "linear" or "mlp", given {self.condition_projection!r}.')
        if self.head_type not in ("diffusion", "flow_matching"):
            raise ValueError(f'head_type must be "diffusion" or "flow_matching", given {self.head_type!r}.')
        if not 0 < self.mask_ratio_minimum < 1 or self.mask_ratio_sd <= 0:
            raise ValueError(
                f"mask_ratio_minimum must lie between 0 and 1 and mask_ratio_sd above 0, given "
                f"{self.mask_ratio_minimum} and {self.mask_ratio_sd}."
            )

    @property
    def grid_size(self) -> tuple[int, ...]:
        return tuple(size // patch for size, patch in zip(self.latent_size, self.patch_size, strict=True))

    @property
    def num_hidden_layers(self) -> int:
        return self.encoder_depth + self.decoder_depth

    @property
    def num_tokens(self) -> int:
        return math.prod(self.grid_size)

    @property
    def token_dim(self) -> int:
        return self.latent_channels * math.prod(self.patch_size)


# ---- cpgg_hf.models.guidance


class GuidanceStep(NamedTuple):

    decoding_step: int
    num_decoding_steps: int
    diffusion_step: int
    num_diffusion_steps: int


class Guidance:

    def scale(self, step: GuidanceStep) -> float:
        raise NotImplementedError

    def passes(self, steps: Iterable[GuidanceStep]) -> tuple[bool, bool]:
        scales = {float(self.scale(step)) for step in steps}
        if not all(0 <= scale < np.inf for scale in scales):
            raise ValueError(f"a guidance rule's scale must be a positive number or 0, given {sorted(scales)}.")
        return scales != {0.0}, scales != {1.0}

    def unconditional(self, phenotypes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return phenotypes, phenotypes.new_ones(len(phenotypes)).bool()

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor, step: GuidanceStep) -> torch.Tensor:
        return unconditional.lerp(conditional, self.scale(step))


@dataclass(frozen=True)
class ConstantGuidance(Guidance):

    guidance_scale: float

    def scale(self, step: GuidanceStep) -> float:  # noqa: ARG002
        return self.guidance_scale


def as_guidance(guidance_scale: Any) -> Guidance:
    if hasattr(guidance_scale, "combine"):  # not isinstance: remote code has one copy of the class per file
        return guidance_scale
    if not isinstance(guidance_scale, Real) or not 0 <= float(guidance_scale) < np.inf:
        raise ValueError(
            f"guidance_scale must be a positive number or 0, or a Guidance object, given {guidance_scale!r}."
        )
    return ConstantGuidance(float(guidance_scale))


# ---- cpgg_hf.models.token_diffusion


_TIME_CHANNELS = 256


_LAYER_NORM_EPS = 1e-6


_BIN_HALF_WIDTH = 1.0 / 255.0


_MODULATION_ELEMENTS = 2**24  # modulations are precomputed for as many steps as fit in this many numbers


# Shift and scale of a layer's normalised input, and the gate of a block's residual, each (..., width).
Modulation: TypeAlias = tuple[torch.Tensor, ...]


class AdaLNBlock(nn.Module):

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS)
        self.modulation = nn.Linear(width, 3 * width)
        self.linear_in = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def modulate(self, embedding: torch.Tensor) -> Modulation:
        shift, scale, gate = self.modulation(embedding).chunk(3, dim=-1)
        return shift, 1.0 + scale, gate

    def forward(
        self, hidden_states: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, gate: torch.Tensor
    ) -> torch.Tensor:
        update = torch.addcmul(shift, self.norm(hidden_states), scale)
        update = self.linear_out(F.silu(self.linear_in(update)))
        return torch.addcmul(hidden_states, gate, update)


class AdaLNOutput(nn.Module):

    def __init__(self, width: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, out_channels)

    def modulate(self, embedding: torch.Tensor) -> Modulation:
        shift, scale = self.modulation(embedding).chunk(2, dim=-1)
        return shift, 1.0 + scale

    def forward(self, hidden_states: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.addcmul(shift, self.norm(hidden_states), scale))


class TokenDiffusionHead(nn.Module):

    def __init__(
        self,
        token_dim: int,
        condition_width: int,
        width: int,
        depth: int,
        num_train_timesteps: int,
        head_type: str = "diffusion",
    ):
        super().__init__()
        self.head_type = head_type
        self.token_dim = token_dim
        self.width = width
        self.num_train_timesteps = num_train_timesteps
        self.time_embedding = nn.Sequential(nn.Linear(_TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.condition_projection = nn.Linear(condition_width, width)
        self.input_projection = nn.Linear(token_dim, width)
        self.blocks = nn.ModuleList(AdaLNBlock(width) for _ in range(depth))
        self.output = AdaLNOutput(width, 2 * token_dim if head_type == "diffusion" else token_dim)

    @property
    def dtype(self) -> torch.dtype:
        return self.input_projection.weight.dtype

    def embed_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        if timesteps.numel() > self.num_train_timesteps and not timesteps.is_floating_point():
            all_timesteps = torch.arange(self.num_train_timesteps, device=timesteps.device)
            return F.embedding(timesteps, self.embed_timesteps(all_timesteps))
        half, dtype = _TIME_CHANNELS // 2, torch.promote_types(self.dtype, torch.float32)
        frequencies = torch.exp(torch.arange(half, device=timesteps.device, dtype=dtype) * (-math.log(10000.0) / half))
        angles = timesteps.to(dtype).unsqueeze(-1) * frequencies
        return self.time_embedding(torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.dtype))

    def modulations(self, embedding: torch.Tensor) -> list[Modulation]:
        activated = F.silu(embedding)
        return [layer.modulate(activated) for layer in (*self.blocks, self.output)]

    def denoise(self, hidden_states: torch.Tensor, modulations: Sequence[Modulation]) -> torch.Tensor:
        for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
            hidden_states = block(hidden_states, *modulation)
        return self.output(hidden_states, *modulations[-1])

    def forward(self, noisy_tokens: torch.Tensor, timesteps: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        embedding = self.embed_timesteps(timesteps) + self.condition_projection(z.to(self.dtype))
        return self.denoise(self.input_projection(noisy_tokens.to(self.dtype)), self.modulations(embedding))


@cache
def cosine_betas(num_train_timesteps: int) -> np.ndarray:
    ends = np.arange(num_train_timesteps + 1) / num_train_timesteps
    alphas_cumprod = np.cos((ends + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999)


class _LossTables(NamedTuple):

    signal: torch.Tensor
    noise: torch.Tensor
    minimum_log_variance: torch.Tensor
    log_variance_range: torch.Tensor
    mean_weight: torch.Tensor


@cache
def _loss_tables(num_train_timesteps: int, device: torch.device) -> _LossTables:
    betas = cosine_betas(num_train_timesteps)
    alphas_cumprod = np.cumprod(1.0 - betas)
    previous = np.append(1.0, alphas_cumprod[:-1])
    variance = betas * (1.0 - previous) / (1.0 - alphas_cumprod)
    variance[0] = variance[1]
    # (coefficient of the noise error in the posterior mean)^2 / variance, simplified; t = 0 has another loss
    mean_weight = np.append(0.0, betas[1:] / ((1.0 - betas[1:]) * (1.0 - previous[1:])))
    tables = (
        np.sqrt(alphas_cumprod),
        np.sqrt(1.0 - alphas_cumprod),
        np.log(variance),
        np.log(betas) - np.log(variance),
        mean_weight,
    )
    # The cache may be filled under inference_mode, but its tensors must be usable in training.
    with torch.inference_mode(False):
        return _LossTables(*(torch.from_numpy(table.astype(np.float32)).to(device) for table in tables))


def _gaussian_cdf(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _discretised_gaussian_log_likelihood(
    tokens: torch.Tensor, centred: torch.Tensor, log_scale: torch.Tensor
) -> torch.Tensor:
    below = _gaussian_cdf((centred + _BIN_HALF_WIDTH) * torch.exp(-log_scale))
    above = _gaussian_cdf((centred - _BIN_HALF_WIDTH) * torch.exp(-log_scale))
    probability = torch.where(tokens > 0.999, 1.0 - above, below - above)
    probability = torch.where(tokens < -0.999, below, probability)
    return probability.clamp(min=1e-12).log()


def token_diffusion_loss(
    head: TokenDiffusionHead, tokens: torch.Tensor, z: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    tables = _loss_tables(head.num_train_timesteps, timesteps.device)
    signal, sigma, minimum_log_variance, log_variance_range, mean_weight = (
        table[timesteps].unsqueeze(-1) for table in tables
    )
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    tokens, noise = tokens.to(dtype), noise.to(dtype)
    output = head(signal * tokens + sigma * noise, timesteps, z).to(dtype)
    noise_estimate, variance_value = output.split(head.token_dim, dim=-1)
    error = noise_estimate - noise
    squared_error = error.square()
    mse = squared_error.mean(dim=-1)

    # If the model's variance is e^d times the posterior's and the means only differ by the noise error,
    # KL = (d - 1 + e^-d (1 + weight error^2)) / 2.
    log_ratio = 0.5 * (variance_value + 1.0) * log_variance_range
    divergence = log_ratio + torch.expm1(-log_ratio) + torch.exp(-log_ratio) * (mean_weight * squared_error.detach())
    bound = 0.5 * divergence.mean(dim=-1)

    first = timesteps == 0  # the last reverse step has a likelihood instead
    tokens, error = tokens.expand_as(error)[first], error[first].detach()
    log_scale = 0.5 * (minimum_log_variance[first] + log_ratio[first])
    centred = (sigma[first] / signal[first]) * error
    likelihood = _discretised_gaussian_log_likelihood(tokens, centred, log_scale).mean(dim=-1)
    bound = bound.masked_scatter(first, -likelihood)
    return mse, bound / math.log(2.0)


def token_flow_loss(
    head: TokenDiffusionHead, tokens: torch.Tensor, z: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    tokens, noise = tokens.to(dtype), noise.to(dtype)
    share = (timesteps.to(dtype) / head.num_train_timesteps).unsqueeze(-1)
    velocity = head(torch.lerp(tokens, noise, share), timesteps, z).to(dtype)
    return (velocity - (noise - tokens)).square().mean(dim=-1)


def check_scheduler(head_type: str, scheduler: Any, num_train_timesteps: int) -> None:
    # Checked in the signature, because a configuration may contain entries of another scheduler class.
    accepted, config = inspect.signature(type(scheduler).__init__).parameters, scheduler.config
    # diffusers' flow-matching schedulers have no `prediction_type`; others that support flows state it there.
    follows_flow = "prediction_type" not in accepted or config.prediction_type == "flow_prediction"
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", torch.empty(0)).cpu().double()
    expected = torch.from_numpy(np.cumprod(1.0 - cosine_betas(num_train_timesteps)))
    if follows_flow != (head_type == "flow_matching"):
        problem = "follows a flow" if follows_flow else "removes noise"
        problem += f", but the MAR's head has the type {head_type!r}"
    elif config.num_train_timesteps != num_train_timesteps:
        problem = f"has {config.num_train_timesteps} training timesteps, the MAR's head {num_train_timesteps}"
    elif follows_flow or "temperature" in inspect.signature(scheduler.step).parameters:
        return
    elif config.prediction_type != "epsilon":
        problem = f"expects estimates of {config.prediction_type!r}, but the MAR's head estimates the noise, 'epsilon'"
    elif alphas_cumprod.shape != expected.shape or not torch.allclose(alphas_cumprod, expected, atol=1e-3):
        problem = "has another noise schedule than the MAR's head was trained on, 'squaredcos_cap_v2'"
    elif "variance_type" in accepted and "learned" in str(config.variance_type):
        problem = "expects a learned variance, which only CPGGDDPMScheduler supports"
    elif "clip_sample" in accepted and config.clip_sample and config.get("clip_sample_range", 1.0) < 3:
        problem = f"clips latents at {config.get('clip_sample_range', 1.0)} standard deviations, which cuts them off"
    else:
        return
    remedy = "FlowMatchEulerDiscreteScheduler" if head_type == "flow_matching" else "CPGGDDPMScheduler"
    raise ValueError(f"{type(scheduler).__name__} {problem}; use {remedy}, or another class by pipe.set_scheduler.")


def clips_latents(scheduler_class: Any, config: Any) -> bool:
    return issubclass(scheduler_class, DDIMScheduler | DDPMScheduler) and bool(config.get("clip_sample"))


def set_inference_timesteps(head_type: str, scheduler: Any, num_inference_steps: int) -> None:
    if head_type == "flow_matching" and "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps).tolist())
    else:
        scheduler.set_timesteps(num_inference_steps)
    if head_type == "flow_matching" or "temperature" in inspect.signature(scheduler.step).parameters:
        return
    first = int(scheduler.timesteps[0])
    if not clips_latents(type(scheduler), scheduler.config) and scheduler.alphas_cumprod[first] < 1e-6:
        raise ValueError(
            f"{type(scheduler).__name__} starts at timestep {first}, where only noise is left of the latents, without "
            "clipping; use pipe.set_scheduler with a class such as DPMSolverMultistepScheduler, or fewer steps."
        )


@torch.no_grad()
def sample_tokens(
    head: TokenDiffusionHead,
    z: torch.Tensor,
    noise: torch.Tensor,
    scheduler: Any,
    generators: Sequence[torch.Generator | None],
    guidance_scale: float | Guidance = 1.0,
    temperature: float = 1.0,
    decoding_step: int = 0,
    num_decoding_steps: int = 1,
) -> torch.Tensor:
    guidance = as_guidance(guidance_scale)
    check_scheduler(head.head_type, scheduler, head.num_train_timesteps)
    batch_size, num_tokens, token_dim = noise.shape
    timesteps, device = scheduler.timesteps, z.device
    accepted = inspect.signature(scheduler.step).parameters
    learned_variance = "temperature" in accepted
    options: dict[str, Any] = {}
    if learned_variance:
        shape = (len(timesteps), num_tokens, token_dim)
        drawn = [torch.randn(shape, generator=g, device="cpu" if g is None else g.device) for g in generators]
        variance_noise = torch.stack([noise_of_sample.to(device) for noise_of_sample in drawn], dim=1).transpose(2, 3)
        options["temperature"] = temperature
    elif temperature != 1.0:
        raise ValueError(
            f"{type(scheduler).__name__} has no temperature, given {temperature}; use CPGGDDPMScheduler, or 1."
        )
    elif "generator" in accepted and None not in generators:
        options["generator"] = generators

    condition = head.condition_projection(z.to(head.dtype))
    times = head.embed_timesteps(timesteps.to(device))[:, None, None]
    steps_at_once = max(1, _MODULATION_ELEMENTS // (condition.numel() * (3 * len(head.blocks) + 2)))
    sample = noise.transpose(1, 2)  # (B, D, n): a list of generators needs the batch in front
    for index, timestep in enumerate(timesteps):
        if index % steps_at_once == 0:
            modulations = head.modulations(times[index : index + steps_at_once] + condition)
            per_step = zip(
                *(zip(*(part.unbind() for part in layer), strict=True) for layer in modulations), strict=True
            )
        model_input = sample
        if hasattr(scheduler, "scale_model_input"):  # flow-matching schedulers have none
            model_input = scheduler.scale_model_input(sample, timestep)
        hidden_states = head.input_projection(model_input.transpose(1, 2).to(head.dtype))
        if z.shape[0] == 2 * batch_size:
            hidden_states = torch.cat([hidden_states, hidden_states])
        output = head.denoise(hidden_states, next(per_step)).float()
        estimate, variance_value = output[..., :token_dim], output[..., token_dim:]
        if z.shape[0] == 2 * batch_size:
            estimate, unconditional = estimate.chunk(2)
            step = GuidanceStep(decoding_step, num_decoding_steps, index, len(timesteps))
            estimate, variance_value = guidance.combine(estimate, unconditional, step), variance_value[:batch_size]
        if learned_variance:
            estimate = torch.cat([estimate, variance_value], dim=-1)
            options["variance_noise"] = variance_noise[index]
        sample = scheduler.step(estimate.transpose(1, 2), timestep, sample, return_dict=False, **options)[0]
    return sample.transpose(1, 2)


# ---- cpgg_hf.models.modeling_cpgg_mar


@dataclass
class CPGGMAROutput(ModelOutput):

    loss: torch.Tensor | None = None
    loss_mse: torch.Tensor | None = None
    loss_vlb: torch.Tensor | None = None
    z: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def decoding_schedule(num_tokens: int, num_decoding_steps: int) -> list[int]:
    if not 1 <= num_decoding_steps <= num_tokens:
        raise ValueError(
            f"num_decoding_steps must lie between 1 and {num_tokens} (one per token), given {num_decoding_steps}."
        )
    remaining = num_tokens
    drawn = []
    for step in range(1, num_decoding_steps):
        masked = min(math.floor(num_tokens * math.cos(math.pi / 2 * step / num_decoding_steps)), remaining - 1)
        drawn.append(remaining - masked)
        remaining = masked
    return [*drawn, remaining]


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    **_kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def _take_rows(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return (
        hidden_states.flatten(0, 1)
        .index_select(0, _flat(positions, hidden_states.shape[1]))
        .unflatten(0, positions.shape)
    )


def _flat(positions: torch.Tensor, num_rows: int) -> torch.Tensor:
    starts = torch.arange(positions.shape[0], device=positions.device).unsqueeze(1) * num_rows
    return (positions + starts).flatten()


class CPGGMARAttention(nn.Module):

    def __init__(self, config: CPGGMARConfig, width: int):
        super().__init__()
        self.config = config
        self.head_dim = width // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = config.dropout
        self.is_causal = False
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, hidden_states: torch.Tensor, query_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = (
            projection(states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection, states in (
                (self.query, query_states),
                (self.key, hidden_states),
                (self.value, hidden_states),
            )
        )
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attention(
            self, query, key, value, None, dropout=self.dropout if self.training else 0.0, scaling=self.scaling
        )
        return self.output(attended.flatten(2)), weights


class CPGGMARLayer(GradientCheckpointingLayer):

    def __init__(self, config: CPGGMARConfig, width: int):
        super().__init__()
        hidden_width = int(width * config.mlp_ratio)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = CPGGMARAttention(config, width)
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp_in = nn.Linear(width, hidden_width)
        self.mlp_out = nn.Linear(hidden_width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        normalised = self.attention_norm(hidden_states)
        queries = normalised
        if positions is not None:
            queries, hidden_states = _take_rows(normalised, positions), _take_rows(hidden_states, positions)
        hidden_states = hidden_states + self.dropout(self.attention(normalised, queries)[0])
        update = self.dropout(F.gelu(self.mlp_in(self.mlp_norm(hidden_states))))
        return hidden_states + self.dropout(self.mlp_out(update))


class CPGGMARModel(PreTrainedModel):  # type: ignore[misc]
    r"""
    Phenotypes to cine latents: masked autoregressive transformer with a diffusion (or flow-matching) loss per token.

    This model inherits from [`~transformers.PreTrainedModel`]: see there for loading, saving, devices and dtypes.
    `forward` computes the training loss or the vectors `z`; `generate_latents` draws latents.

    Args:
        config ([`CPGGMARConfig`]): the configuration; its defaults are the paper's.
    """

    config_class = CPGGMARConfig
    base_model_prefix = "mar"
    main_input_name = "latents"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CPGGMARLayer", "AdaLNBlock"]  # noqa: RUF012 - declared so by the base class
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _input_embed_layer = "token_projection"
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": OutputRecorder(CPGGMARLayer),
        "attentions": OutputRecorder(CPGGMARAttention, index=1),
    }

    def __init__(self, config: CPGGMARConfig):
        super().__init__(config)
        encoder_width, decoder_width = config.encoder_width, config.decoder_width
        sequence_length = config.num_condition_tokens + config.num_tokens

        layers: list[nn.Module] = [nn.Linear(config.num_phenotypes, encoder_width)]
        if config.condition_projection == "mlp":
            layers += [nn.SiLU(), nn.Linear(encoder_width, encoder_width)]
        self.condition_projection = nn.Sequential(*layers)
        self.missing_phenotype_embedding = nn.Parameter(torch.empty(config.num_phenotypes, encoder_width))
        self.null_condition_embedding = nn.Parameter(torch.empty(encoder_width))

        self.token_projection = nn.Linear(config.token_dim, encoder_width)
        self.encoder_position_embedding = nn.Parameter(torch.empty(sequence_length, encoder_width))
        self.embedding_norm = nn.LayerNorm(encoder_width, eps=config.layer_norm_eps)
        self.encoder_layers = nn.ModuleList(CPGGMARLayer(config, encoder_width) for _ in range(config.encoder_depth))
        self.encoder_norm = nn.LayerNorm(encoder_width, eps=config.layer_norm_eps)

        self.decoder_projection = nn.Linear(encoder_width, decoder_width)
        self.mask_token = nn.Parameter(torch.empty(decoder_width))
        self.decoder_position_embedding = nn.Parameter(torch.empty(sequence_length, decoder_width))
        self.decoder_layers = nn.ModuleList(CPGGMARLayer(config, decoder_width) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=config.layer_norm_eps)

        self.diffusion_position_embedding = nn.Parameter(torch.empty(config.num_tokens, decoder_width))
        self.diffusion_head = TokenDiffusionHead(
            config.token_dim,
            decoder_width,
            config.head_width,
            config.head_depth,
            config.num_train_timesteps,
            config.head_type,
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, TokenDiffusionHead):
            for layer in module.time_embedding.children():
                if isinstance(layer, nn.Linear):
                    init.normal_(layer.weight, std=0.02)
            init.zeros_(module.output.linear.weight)
        elif isinstance(module, AdaLNBlock | AdaLNOutput):
            init.zeros_(module.modulation.weight)
        elif isinstance(module, CPGGMARModel):
            init.zeros_(module.missing_phenotype_embedding)
            for name, parameter in module.named_parameters(recurse=False):
                if name != "missing_phenotype_embedding":
                    init.normal_(parameter, std=0.02)
        else:
            super()._init_weights(module)

    def patchify(self, latents: torch.Tensor) -> torch.Tensor:
        """Cuts latents (B, C, T', H', W') into tokens (B, L, D) in the order t, h, w, each flattened channel first.

        Raises:
            ValueError: latents of another shape than the config's.
        """
        expected = (self.config.latent_channels, *self.config.latent_size)
        if tuple(latents.shape[1:]) != expected:
            raise ValueError(
                f"latents must have shape (B, {', '.join(map(str, expected))}) by the model's config, given "
                f"{tuple(latents.shape)}."
            )
        patches = latents
        for axis, patch in enumerate(self.config.patch_size):
            patches = patches.unflatten(2 + 2 * axis, (-1, patch))
        # (B, C, T, t, H, h, W, w) -> (B, T, H, W, C, t, h, w)
        return patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def unpatchify(self, tokens: torch.Tensor) -> torch.Tensor:
        """Assembles latents (B, C, T', H', W') from tokens (B, L, D), the inverse of `patchify`."""
        config = self.config
        patches = tokens.unflatten(1, config.grid_size).unflatten(4, (config.latent_channels, *config.patch_size))
        # (B, T, H, W, C, t, h, w) -> (B, C, T, t, H, h, W, w)
        patches = patches.permute(0, 4, 1, 5, 2, 6, 3, 7)
        return patches.reshape(tokens.shape[0], config.latent_channels, *config.latent_size)

    def draw_mask(
        self, batch_size: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Draws a training mask (B, L), True = masked: one ratio per batch, one order per sample.

        The ratio follows the configured normal distribution truncated to [mask_ratio_minimum, 1].
        """
        source = "cpu" if generator is None else generator.device
        ratio = torch.rand((), generator=generator, device=source, dtype=torch.float64).item()
        order = torch.rand((batch_size, self.config.num_tokens), generator=generator, device=source)
        return self.mask_of(ratio, order).to(device)

    def mask_of(self, ratio: float, order: torch.Tensor) -> torch.Tensor:
        """The training mask (B, L), True = masked, from uniform draws.

        Args:
            ratio: in [0, 1), quantile of the share of masked tokens in its distribution.
            order: (B, L); the tokens with the smallest values are masked.
        """
        mask = torch.zeros_like(order, dtype=torch.bool)
        return mask.scatter(1, order.argsort(dim=1)[:, : self.num_masked(self.config, ratio)], True)

    @staticmethod
    def num_masked(config: Any, ratio: float) -> int:
        """Number of masked tokens at the quantile `ratio` in [0, 1) of the truncated distribution of their share."""
        distribution = NormalDist(config.mask_ratio_mean, config.mask_ratio_sd)
        lower, upper = distribution.cdf(config.mask_ratio_minimum), distribution.cdf(1.0)
        share = max(distribution.inv_cdf(lower + (upper - lower) * ratio), config.mask_ratio_minimum)
        return min(math.ceil(config.num_tokens * share), config.num_tokens)

    def embed_phenotypes(self, phenotypes: torch.Tensor, drop_condition: torch.Tensor | None = None) -> torch.Tensor:
        """Embeds phenotypes in physical units as the condition.

        Args:
            phenotypes: (B, num_phenotypes), float32 or float64; NaN = missing. Standardised in that precision.
            drop_condition: (B,) bool, where the null embedding replaces the condition.

        Returns:
            (B, encoder_width).

        Raises:
            ValueError: a wrong shape.
        """
        if phenotypes.ndim != 2 or phenotypes.shape[1] != self.config.num_phenotypes:
            raise ValueError(
                f"phenotypes must have shape (B, {self.config.num_phenotypes}), given {tuple(phenotypes.shape)}."
            )
        dtype = torch.promote_types(phenotypes.dtype, torch.float32)
        mean, sd = (
            torch.tensor(values, dtype=dtype, device=phenotypes.device)
            for values in (self.config.phenotype_mean, self.config.phenotype_sd)
        )
        with torch.autocast(phenotypes.device.type, enabled=False):  # bfloat16 would round the phenotypes
            standardised = (phenotypes.to(dtype) - mean) / sd
            missing = standardised.isnan()
            weight_dtype = self.missing_phenotype_embedding.dtype
            condition = self.condition_projection(standardised.masked_fill(missing, 0.0).to(weight_dtype))
            condition = condition + missing.to(weight_dtype) @ self.missing_phenotype_embedding
        if drop_condition is None:
            drop_condition = missing.new_zeros(missing.shape[0])
        # Not indexed, so that the null embedding takes part in every training step, as DDP requires.
        return torch.where(drop_condition.bool().unsqueeze(1), self.null_condition_embedding, condition)

    def encode(self, tokens: torch.Tensor, visible: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Encodes condition and visible tokens.

        Args:
            tokens: (B, L, D).
            visible: (B, v), positions of the visible tokens.
            condition: (B, encoder_width).

        Returns:
            (B, num_condition_tokens + v, encoder_width), the condition tokens first.
        """
        num_condition_tokens = self.config.num_condition_tokens
        position_embedding = self.encoder_position_embedding
        hidden_states = self.token_projection(_take_rows(tokens, visible).to(self.token_projection.weight.dtype))
        hidden_states = hidden_states + F.embedding(visible + num_condition_tokens, position_embedding)
        condition_tokens = condition.unsqueeze(1) + position_embedding[:num_condition_tokens]
        hidden_states = self.embedding_norm(torch.cat([condition_tokens, hidden_states], dim=1))
        for layer in self.encoder_layers:
            hidden_states = layer(hidden_states)
        return self.encoder_norm(hidden_states)

    def decode(self, encoded: torch.Tensor, visible: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Decodes the tokens at some positions from the encoded visible ones.

        Args:
            encoded: (B, num_condition_tokens + v, encoder_width), from `encode`.
            visible: (B, v), positions of the visible tokens.
            positions: (B, n), positions of the tokens to decode.

        Returns:
            (B, n, decoder_width): `z` without its position embedding.
        """
        num_condition_tokens, num_tokens = self.config.num_condition_tokens, self.config.num_tokens
        hidden_states = self.decoder_projection(encoded).to(self.mask_token.dtype)
        condition_tokens, seen = hidden_states[:, :num_condition_tokens], hidden_states[:, num_condition_tokens:]
        hidden_states = self.mask_token.expand(encoded.shape[0] * num_tokens, -1)
        hidden_states = hidden_states.index_copy(0, _flat(visible, num_tokens), seen.flatten(0, 1))
        hidden_states = torch.cat([condition_tokens, hidden_states.unflatten(0, (-1, num_tokens))], dim=1)
        hidden_states = hidden_states + self.decoder_position_embedding
        for layer in self.decoder_layers[:-1]:
            hidden_states = layer(hidden_states)
        # The last layer only computes the requested tokens: no later layer attends to others.
        hidden_states = self.decoder_layers[-1](hidden_states, positions + num_condition_tokens)
        return self.decoder_norm(hidden_states)

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        latents: torch.Tensor,
        phenotypes: torch.Tensor,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        drop_condition: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        timesteps: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,  # noqa: ARG002 (read by the decorator, as `return_dict` is)
        output_attentions: bool | None = None,  # noqa: ARG002
    ) -> CPGGMAROutput:
        r"""
        The loss of one training step, or (`return_loss=False`) only the vectors `z`. Missing arguments are drawn.

        Args:
            latents (`torch.Tensor`): standardised latents (B, C, T', H', W'), or their tokens (B, L, D).
            phenotypes (`torch.Tensor`): (B, num_phenotypes) in physical units, float32 or float64; NaN = missing.
            mask (`torch.Tensor`, *optional*): (B, L), nonzero = masked, the same number in each sample. Drawn
                by `draw_mask`. A mask on the CPU avoids a synchronisation with the device.
            positions (`torch.LongTensor`, *optional*): (B, n), the tokens to predict; the masked ones by default, in
                sequence order.
            drop_condition (`torch.Tensor`, *optional*): (B,), where the null embedding replaces the condition. Drawn
                with probability `condition_dropout` in training; False in evaluation.
            noise (`torch.Tensor`, *optional*): (B, timesteps_per_token, n, D), the noise of the diffusion loss.
            timesteps (`torch.Tensor`, *optional*): (B, timesteps_per_token, n), its timesteps: integers below
                `num_train_timesteps`, for a flow numbers from 0 to `num_train_timesteps`.
            generator (`torch.Generator`, *optional*): source of all draws.
            return_loss (`bool`, defaults to `True`): whether to compute the loss.
            output_hidden_states (`bool`, *optional*): whether to return the hidden states of all layers.
            output_attentions (`bool`, *optional*): whether to return the attention weights of all layers.

        Returns:
            [`CPGGMAROutput`], or a tuple of its fields that are not None for `return_dict=False`.

        Raises:
            ValueError: shapes that do not fit.
        """
        tokens = self.patchify(latents) if latents.ndim == 5 else latents
        expected = (phenotypes.shape[0], self.config.num_tokens, self.config.token_dim)
        if tuple(tokens.shape) != expected:
            raise ValueError(
                f"for {expected[0]} rows of phenotypes this model expects latents of shape "
                f"{(expected[0], self.config.latent_channels, *self.config.latent_size)} or tokens {expected}, "
                f"given {tuple(latents.shape)}."
            )
        batch_size, device = tokens.shape[0], tokens.device

        def draw(function: Callable[..., torch.Tensor], *arguments: Any, **options: Any) -> torch.Tensor:
            source = device if generator is None else generator.device
            return function(*arguments, generator=generator, device=source, **options).to(device)

        if mask is None:
            mask = self.draw_mask(batch_size, generator, device)
        visible, masked = (part.to(device) for part in self._split_positions(mask))
        if positions is None:
            positions = masked
        if drop_condition is None and self.training:
            drop_condition = draw(torch.rand, batch_size) < self.config.condition_dropout

        condition = self.embed_phenotypes(phenotypes, drop_condition)
        z = self.decode(self.encode(tokens, visible, condition), visible, positions)
        z = z + F.embedding(positions, self.diffusion_position_embedding)
        if not return_loss:
            return CPGGMAROutput(z=z, positions=positions)

        shape = (batch_size, self.config.timesteps_per_token, positions.shape[1])
        flow = self.config.head_type == "flow_matching"
        if timesteps is None and flow:
            timesteps = self.config.num_train_timesteps * draw(torch.rand, shape)
        elif timesteps is None:
            timesteps = draw(torch.randint, self.config.num_train_timesteps, shape)
        if noise is None:
            noise = draw(torch.randn, (*shape, self.config.token_dim))
        targets = _take_rows(tokens, positions)
        drawn = (targets.unsqueeze(1), z.unsqueeze(1), noise, timesteps)
        if flow:
            loss = token_flow_loss(self.diffusion_head, *drawn).mean()
            return CPGGMAROutput(loss=loss, loss_mse=loss, z=z, positions=positions)
        mse, vlb = token_diffusion_loss(self.diffusion_head, *drawn)
        loss_mse, loss_vlb = mse.mean(), vlb.mean()
        return CPGGMAROutput(loss=loss_mse + loss_vlb, loss_mse=loss_mse, loss_vlb=loss_vlb, z=z, positions=positions)

    def _split_positions(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = mask.bool()
        num_masked = mask.sum(dim=1)
        if (num_masked != num_masked[0]).any():
            raise ValueError(f"mask must hide the same number of tokens in each sample, given {num_masked.tolist()}.")
        ranks = mask.long().argsort(dim=1, stable=True)
        num_visible = mask.shape[1] - int(num_masked[0])
        return ranks[:, :num_visible], ranks[:, num_visible:]

    def check_scheduler(self, scheduler: Any) -> None:
        """Checks that a scheduler removes noise as the head was trained to estimate it.

        Raises:
            ValueError: it does not; see `cpgg_hf.models.token_diffusion.check_scheduler`.
        """
        check_scheduler(self.config.head_type, scheduler, self.config.num_train_timesteps)

    @torch.no_grad()
    def generate_latents(
        self,
        phenotypes: torch.Tensor,
        scheduler: Any,
        num_decoding_steps: int = 16,
        num_inference_steps: int = 100,
        guidance_scale: float | Guidance = 1.0,
        temperature: float = 1.0,
        generators: list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        callback: Callable[[int, torch.Tensor], dict[str, Any] | None] | None = None,
    ) -> torch.Tensor:
        r"""
        Draws latents by iterative decoding: a random order per sample, a cosine schedule, a diffusion chain per token.

        All randomness of sample i comes from `generators[i]`.

        Args:
            phenotypes (`torch.Tensor`): (B, num_phenotypes) in physical units, NaN = missing, on the model's device.
            scheduler: a diffusers scheduler; see `sample_tokens`.
            num_decoding_steps (`int`, defaults to 16): passes of the transformer, at most one per token.
            num_inference_steps (`int`, defaults to 100): diffusion steps per token.
            guidance_scale (`float` or [`Guidance`], defaults to 1.0): 1 = no guidance, 0 = unconditional, or a rule.
            temperature (`float`, defaults to 1.0): scale of the noise added in the diffusion steps.
            generators (`list[torch.Generator]`, *optional*): one per sample; torch's global generator by default.
            latents (`torch.Tensor`, *optional*): (B, C, T', H', W'), the noise that the diffusion starts from.
            callback (`Callable`, *optional*): called after each decoding step with its number and the latents so far
                (zero where nothing has been drawn). It may return a dict: `"latents"` replaces the latents,
                `"guidance_scale"` the guidance of the remaining decoding steps.

        Returns:
            (B, C, T', H', W') float32, standardised.

        Raises:
            ValueError: arguments that do not fit the model or each other.
        """
        config, device, batch_size = self.config, phenotypes.device, phenotypes.shape[0]
        guidance = as_guidance(guidance_scale)
        sources = [None] * batch_size if generators is None else generators
        if len(sources) != batch_size:
            raise ValueError(f"generators must be one per sample, given {len(sources)} for {batch_size} samples.")
        token_counts = decoding_schedule(config.num_tokens, num_decoding_steps)
        self.check_scheduler(scheduler)

        def draw(function: Callable[..., torch.Tensor], argument: Any) -> torch.Tensor:
            drawn = [function(argument, generator=g, device="cpu" if g is None else g.device) for g in sources]
            return torch.stack([sample.to(device) for sample in drawn])

        orders = draw(torch.randperm, config.num_tokens)
        if latents is None:
            latents = draw(torch.randn, (config.latent_channels, *config.latent_size))
        start = self.patchify(latents.to(device, torch.float32))

        tokens = torch.zeros_like(start)
        mask = torch.ones(start.shape[:2], dtype=torch.bool, device=device)
        num_masked = config.num_tokens
        for step, count in enumerate(token_counts):
            positions = orders[:, num_masked - count : num_masked]
            num_masked -= count
            set_inference_timesteps(config.head_type, scheduler, num_inference_steps)
            num_steps = len(scheduler.timesteps)
            conditional, unconditional = guidance.passes(
                GuidanceStep(step, num_decoding_steps, index, num_steps) for index in range(num_steps)
            )
            conditions = [(phenotypes, mask.new_zeros(batch_size))] if conditional else []
            if unconditional:
                conditions.append(guidance.unconditional(phenotypes))
            rows, drop_condition = (torch.cat(part) for part in zip(*conditions, strict=True))
            repeats = (len(conditions), 1)
            z = self(
                tokens.repeat(*repeats, 1),
                rows,
                mask=mask.repeat(repeats),
                positions=positions.repeat(repeats),
                drop_condition=drop_condition,
                return_loss=False,
                return_dict=True,
            ).z
            noise = _take_rows(start, positions) * getattr(scheduler, "init_noise_sigma", 1.0)
            drawn = sample_tokens(
                self.diffusion_head, z, noise, scheduler, sources, guidance, temperature, step, num_decoding_steps
            )
            tokens = tokens.scatter(1, positions.unsqueeze(-1).expand_as(drawn), drawn)
            mask = mask.scatter(1, positions, False)
            changes = (callback(step, self.unpatchify(tokens)) if callback is not None else None) or {}
            if "latents" in changes:
                tokens = self.patchify(changes["latents"])
            if "guidance_scale" in changes:
                guidance = as_guidance(changes["guidance_scale"])
        return self.unpatchify(tokens)
