"""CPGGPipeline of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.

Generated from the sources of cpgg_hf by `cpgg export-remote-code`, do not edit. Apache-2.0.
"""

import PIL.Image
import csv
import difflib
import numpy as np
import pandas
import pandas as pd
import re
import reprlib
import textwrap
import torch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from numbers import Integral, Real
from transformers import PreTrainedModel
from typing import Any, NamedTuple


# ---- cpgg_hf.data_policy


DATA_POLICIES = ("restricted", "public", "phantom")  # strictest first


UNKNOWN_POLICY = DATA_POLICIES[0]


def strictest(policies: Iterable[str | None]) -> str:
    found = set(policies)
    if not found or not found <= set(DATA_POLICIES):
        return UNKNOWN_POLICY
    return next(policy for policy in DATA_POLICIES if policy in found)


# ---- cpgg_hf.cine


def from_network(cines: Any) -> Any:
    return (cines.squeeze(1).float() * 0.5 + 0.5).clamp(0.0, 1.0)


# ---- cpgg_hf.errors


class CPGGError(Exception):
    pass


class PhenotypeError(CPGGError, ValueError):
    pass


def printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def brief(message: object) -> str:
    text = textwrap.shorten(str(message).rstrip(". \n"), 200, placeholder=" ...") or type(message).__name__
    return printable(text)


# ---- cpgg_hf.models.generators


def given_generators(generator: Any, num_samples: int) -> list[torch.Generator]:
    given = generator if isinstance(generator, list) else [] if generator is None else [generator]
    for one in given:
        if not isinstance(one, torch.Generator):
            raise ValueError(
                f"generator must be a torch.Generator or a list of them, given {one!r}; use "
                "torch.Generator().manual_seed(0), for example."
            )
    if isinstance(generator, list) and len(given) != num_samples:
        raise ValueError(
            f"generator must be one, or a list of {num_samples} generators, one per sample, given {len(given)}."
        )
    return given


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


# ---- cpgg_hf.models.settings


@dataclass(frozen=True)
class GenerationSettings:

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
        unknown = overrides.keys() - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(
                f"unknown settings {sorted(unknown)}; expected among {', '.join(one.name for one in fields(cls))}."
            )
        given = {name: value for name, value in overrides.items() if value is not None}
        return cls(**{one.name: config.get(one.name, one.default) for one in fields(cls)} | given)


# ---- cpgg_hf.models.token_diffusion


def clips_latents(scheduler_class: Any, config: Any) -> bool:
    return issubclass(scheduler_class, DDIMScheduler | DDPMScheduler) and bool(config.get("clip_sample"))


# ---- cpgg_hf.phenotypes.schema


_COLUMN = re.compile(r"(?:participant\.)?(?:f\.|p)?(\d{5})(?:-\d+\.\d+|\.\d+\.\d+|(?:_i\d+)?(?:_a\d+)?)", re.I)


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


NAMES: tuple[str, ...] = tuple(phenotype.short_name for phenotype in PHENOTYPES)


_INDEX_OF_NAME = {name.lower(): index for index, name in enumerate(NAMES)}


_INDEX_OF_FIELD = {phenotype.field_id: index for index, phenotype in enumerate(PHENOTYPES)}


def phenotype_index(name_or_field: str | int) -> int:
    text = str(name_or_field).strip()
    if text.lower() in _INDEX_OF_NAME:
        return _INDEX_OF_NAME[text.lower()]
    if not text:
        raise PhenotypeError("a phenotype has no name; give each column the name of its phenotype, or leave it out.")
    column = _COLUMN.fullmatch(text)
    if column and int(column[1]) in _INDEX_OF_FIELD:
        return _INDEX_OF_FIELD[int(column[1])]
    suggestion = _suggest(text[:100], int(column[1]) if column else None)
    raise PhenotypeError(f"unknown phenotype {reprlib.repr(text)}; {suggestion}")


def _suggest(text: str, field_id: int | None) -> str:
    first, last = PHENOTYPES[0].field_id, PHENOTYPES[-1].field_id
    if field_id is not None or re.fullmatch(r"-?\d{1,9}", text):
        number = int(text) if field_id is None else field_id
        nearest = PHENOTYPES[min(max(number, first), last) - first]
        return f"use a field of {first} to {last}, such as {nearest.field_id} ({nearest.short_name})."
    lowered = {name.lower(): name for name in NAMES} | {item.name.lower(): item.short_name for item in PHENOTYPES}
    nearest_name = lowered[difflib.get_close_matches(text.lower(), lowered, n=1, cutoff=0.0)[0]]
    return f"did you mean {nearest_name!r} (`cpgg phenotypes` lists all 82)?"


# ---- cpgg_hf.phenotypes.identities


# (largest volume, smallest volume, stroke volume, ejection fraction)
CHAMBERS: tuple[tuple[int, int, int, int], ...] = tuple(
    (phenotype_index(largest), phenotype_index(smallest), phenotype_index(f"{name}SV"), phenotype_index(f"{name}EF"))
    for name, largest, smallest in (
        ("LV", "LVEDV", "LVESV"),
        ("RV", "RVEDV", "RVESV"),
        ("LA", "LAV_max", "LAV_min"),
        ("RA", "RAV_max", "RAV_min"),
    )
)


# (largest area, smallest area, distensibility)
AORTAS: tuple[tuple[int, int, int], ...] = tuple(
    (
        phenotype_index(f"{name}_max_area"),
        phenotype_index(f"{name}_min_area"),
        phenotype_index(f"{name}_distensibility"),
    )
    for name in ("AAo", "DAo")
)


DERIVED_INDICES: tuple[int, ...] = (*(index for chamber in CHAMBERS for index in chamber[2:]), AORTAS[1][2])


_FLOAT64_ROUNDING = 1e-12  # relative, of an exact identity


_FLOAT32_ROUNDING = 2.0**-23


def heart_rate(array: np.ndarray) -> np.ndarray:
    return _divide(1000 * array[:, phenotype_index("LVCO")], array[:, phenotype_index("LVSV")])


def identity_residuals(array: np.ndarray) -> np.ndarray:
    return array[:, DERIVED_INDICES] - _derived(array)


def complete_identities(array: np.ndarray) -> np.ndarray:
    given = np.array(array, dtype=np.float64)
    for chamber in CHAMBERS:
        _check_fraction(given, chamber[3])
    result = fill_determined(given)
    for group in (*CHAMBERS, *AORTAS):
        _check_order(result, group, given)
    _check_agreement(result, given)
    return result


def fill_determined(array: np.ndarray) -> np.ndarray:
    result = np.array(array, dtype=np.float64)
    for chamber in CHAMBERS:
        _complete_chamber(result, chamber)
    _complete_aortas(result)
    return result


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / denominator


def _pulse_pressure(array: np.ndarray, aorta: tuple[int, int, int]) -> np.ndarray:
    largest, smallest, distensibility = array[:, aorta].T
    return _divide(1000 * (largest - smallest), smallest * distensibility)


def _derived(array: np.ndarray) -> np.ndarray:
    columns = []
    for chamber in CHAMBERS:
        largest, smallest = array[:, chamber[:2]].T
        stroke = largest - smallest
        columns += [stroke, _divide(100 * stroke, largest)]
    largest, smallest = array[:, AORTAS[1][:2]].T
    columns.append(_divide(1000 * (largest - smallest), smallest * _pulse_pressure(array, AORTAS[0])))
    return np.stack(columns, axis=1)


def _half_units(array: np.ndarray) -> np.ndarray:
    result = np.zeros(array.shape)
    for unit in {phenotype.unit for phenotype in PHENOTYPES}:
        columns = [index for index, phenotype in enumerate(PHENOTYPES) if phenotype.unit == unit]
        values = array[:, columns]
        values = values[np.isfinite(values)]
        rounding = _FLOAT32_ROUNDING * np.abs(values)
        decimals = 0
        while decimals < 12 and np.any(np.abs(np.round(values, decimals) - values) > rounding):
            decimals += 1
        result[:, columns] = 0.5 * 10.0**-decimals
    return np.maximum(result, _FLOAT32_ROUNDING * np.abs(np.nan_to_num(array)))


def _fill(array: np.ndarray, index: int, values: np.ndarray) -> None:
    missing = np.isnan(array[:, index])
    array[missing, index] = values[missing]


def _complete_chamber(array: np.ndarray, chamber: tuple[int, int, int, int]) -> None:
    largest, smallest, stroke, fraction = chamber
    remaining = 1 - array[:, fraction] / 100
    _fill(array, largest, array[:, smallest] + array[:, stroke])
    _fill(array, largest, _divide(array[:, smallest], remaining))
    _fill(array, largest, _divide(100 * array[:, stroke], array[:, fraction]))
    _fill(array, smallest, array[:, largest] - array[:, stroke])
    _fill(array, smallest, array[:, largest] * remaining)
    _fill(array, stroke, array[:, largest] - array[:, smallest])
    _fill(array, fraction, _divide(100 * array[:, stroke], array[:, largest]))


def _complete_aortas(array: np.ndarray) -> None:
    for own, other in (AORTAS, AORTAS[::-1]):
        largest, smallest, distensibility = own
        pressure = _pulse_pressure(array, other)
        relative_change = array[:, distensibility] * pressure / 1000
        _fill(array, largest, array[:, smallest] * (1 + relative_change))
        _fill(array, smallest, array[:, largest] / (1 + relative_change))
        area_change = array[:, largest] - array[:, smallest]
        _fill(array, distensibility, _divide(1000 * area_change, array[:, smallest] * pressure))


def _shown(given: np.ndarray, row: int, indices: tuple[int, ...]) -> str:
    parts = [
        f"{NAMES[index]} = {given[row, index]:.6g} {PHENOTYPES[index].unit}"
        for index in indices
        if not np.isnan(given[row, index])
    ]
    return f"row {row}: " + ", ".join(parts)


def _check_fraction(given: np.ndarray, fraction: int) -> None:
    for row in map(int, np.flatnonzero((given[:, fraction] <= 0) | (given[:, fraction] >= 100))):
        raise PhenotypeError(f"{_shown(given, row, (fraction,))}; give an ejection fraction between 0 and 100 %.")


def _check_order(array: np.ndarray, group: tuple[int, ...], given: np.ndarray) -> None:
    largest, smallest = array[:, group[:2]].T
    for row in map(int, np.flatnonzero((largest <= smallest) | (smallest <= 0))):
        raise PhenotypeError(
            f"{_shown(given, row, group)}, but {NAMES[group[0]]} must be above {NAMES[group[1]]} and both positive"
            f" (they are {largest[row]:.6g} and {smallest[row]:.6g} {PHENOTYPES[group[0]].unit}); leave out one."
        )


def _check_agreement(array: np.ndarray, given: np.ndarray) -> None:
    residuals = identity_residuals(array)
    tolerances = _FLOAT64_ROUNDING * np.nan_to_num(np.abs(array[:, DERIVED_INDICES]))
    half_units = _half_units(given)
    for index in sorted({index for group in (*CHAMBERS, *AORTAS) for index in group}):
        moved = given.copy()
        moved[:, index] += half_units[:, index]
        tolerances += np.nan_to_num(np.abs(identity_residuals(fill_determined(moved)) - residuals))
    for row, identity in np.argwhere(np.abs(residuals) > tolerances).tolist():
        index = DERIVED_INDICES[identity]
        group = next((chamber for chamber in CHAMBERS if index in chamber), AORTAS[0] + AORTAS[1])
        implied = array[row, index] - residuals[row, identity]
        raise PhenotypeError(
            f"{_shown(given, row, group)} contradict each other (the others imply {NAMES[index]} = {implied:.6g}"
            f" {PHENOTYPES[index].unit}); leave out one."
        )


# ---- cpgg_hf.phenotypes.units


# unit -> (unit that was probably meant, factor from that unit to ours)
_MISTAKEN_UNITS: dict[str, tuple[tuple[str, float], ...]] = {
    "mL": (("L", 1e3), ("m^3", 1e6), ("uL", 1e-3)),
    "%": (("a fraction", 1e2),),
    "L/min": (("mL/min", 1e-3), ("m^3/min", 1e3)),
    "g": (("kg", 1e3), ("mg", 1e-3)),
    "mm": (("cm", 1e1), ("m", 1e3), ("um", 1e-3)),
    "mm2": (("cm^2", 1e2), ("m^2", 1e6)),
    "1e-3/mmHg": (("1/mmHg", 1e3),),
}


_STRAIN_GROUPS = tuple(
    np.array(
        [index for index, name in enumerate(NAMES) if name.startswith(family) and name.endswith("Global") == whole]
    )
    for family in ("Ecc_", "Err_", "Ell_")
    for whole in (False, True)
)


_MINIMUM = np.array([phenotype.minimum for phenotype in PHENOTYPES])


_MAXIMUM = np.array([phenotype.maximum for phenotype in PHENOTYPES])


def _describe(column: int, value: float) -> str:
    phenotype = PHENOTYPES[column]
    limits = f"plausible: {phenotype.minimum:g} to {phenotype.maximum:g} {phenotype.unit}"
    return f"{phenotype.short_name} = {value:.6g} {phenotype.unit} ({limits})"


def find_unit_errors(array: np.ndarray) -> Iterator[str]:
    # Strains may be slightly beyond zero; everything else positive has a sign error or a unit error below half.
    below = np.where(_MINIMUM > 0, _MINIMUM / 2, np.where(_MINIMUM == 0, 0, 2 * _MINIMUM))
    above = np.where(_MAXIMUM > 0, 2 * _MAXIMUM, 1)
    for row, column in np.argwhere((array < below) | (array > above)).tolist():
        remedy = _remedy(PHENOTYPES[column], float(array[row, column]))
        if remedy:
            yield f"row {row}: {_describe(column, array[row, column])} {remedy}."
    # One nearly still segment is a scar; a whole table of strains below 1 % is a table of fractions.
    for columns in _STRAIN_GROUPS:
        given = array[:, columns]
        present = np.isfinite(given) & (given != 0)
        if present.any() and np.all(np.abs(given[present]) <= 1):
            row, position = np.argwhere(present)[0]
            text = _describe(columns[position], given[row, position])
            yield f"row {row}: {text} looks like a fraction; multiply by 100 to give it in %."


def _remedy(phenotype: Phenotype, value: float) -> str:
    for unit, factor in _MISTAKEN_UNITS[phenotype.unit]:
        if phenotype.minimum <= value * factor <= phenotype.maximum:
            return f"looks like {unit}; multiply by {factor:g} to give it in {phenotype.unit}"
    if phenotype.minimum >= 0 > value:
        return "cannot be negative; correct it, or leave it out (NaN) if it is missing"
    if phenotype.minimum <= -value <= phenotype.maximum:
        return "has the wrong sign; give strains that shorten (Ecc, Ell) as negative, all others as positive values"
    if value > 10 * phenotype.maximum or value < phenotype.minimum / 10:
        return f"has the wrong magnitude; give it in {phenotype.unit}, or leave it out (NaN) if it is missing"
    return ""


def check_magnitudes(array: np.ndarray) -> None:
    for row, column in np.argwhere(np.isinf(array)):
        text = _describe(column, array[row, column])
        raise PhenotypeError(f"row {row}: {text} is not finite; give missing values as NaN.")
    for sentence in find_unit_errors(array):
        raise PhenotypeError(sentence)


# ---- cpgg_hf.phenotypes.tables


# These columns, which name the subject of a row, are skipped.
IDENTIFIER_COLUMNS = frozenset(["eid", "f.eid", "participant.eid", "subject", "subject_id"])


_NO_PHENOTYPE = "no column of the table is a phenotype; name at least one as `cpgg phenotypes` lists them."


def as_array(table: Any) -> np.ndarray:
    array = parse_table(table)
    check_magnitudes(array)
    return array


def parse_table(table: Any) -> np.ndarray:
    if isinstance(table, Mapping):
        return _from_columns(table)
    if hasattr(table, "to_frame"):  # a series
        table = table.to_frame().T
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        repeated = table.columns[table.columns.duplicated()]
        if len(repeated):
            raise PhenotypeError(f"column {reprlib.repr(str(repeated[0]))} is there twice; keep one.")
        columns = {column: table[column].to_list() for column in table.columns}
        return _from_columns(columns or {"subject": []})  # an index alone names no phenotype either
    if isinstance(table, Sequence) and not isinstance(table, str):
        if table and isinstance(table[0], Mapping):
            return _from_rows(table)
        if table and hasattr(table[0], "to_frame"):
            return np.concatenate([parse_table(row) for row in table])
        return _check_shape(_stack([_to_numpy(vector) for vector in table]))
    return _check_shape(_to_numpy(table))


def as_frame(array: Any, index: Any = None) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame(_check_shape(_to_numpy(array)), index=index, columns=list(NAMES))


def row_names(table: Any, num_samples: int | None = None) -> Any:
    index: Any = getattr(table.to_frame().T if hasattr(table, "to_frame") else table, "index", None)
    if not hasattr(index, "repeat") or (index.name is None and index.to_list() == list(range(len(index)))):
        return None
    return index.repeat(num_samples or 1)


def _to_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PhenotypeError(
            f"phenotypes of type {type(values).__name__} are not numeric ({brief(error)}); give a dict, a list of"
            f" dicts, a DataFrame or a (B, {len(NAMES)}) array."
        ) from error


def _stack(vectors: list[np.ndarray]) -> np.ndarray:
    shapes = {vector.shape for vector in vectors}
    if len(shapes) > 1:
        raise PhenotypeError(f"the phenotype vectors differ in shape, {sorted(shapes)}; give each ({len(NAMES)},).")
    return np.array(vectors)


def _check_shape(array: np.ndarray) -> np.ndarray:
    if array.shape == (len(NAMES),):
        return array[None]
    if array.size == 0:
        raise PhenotypeError("the table of phenotypes is empty; give at least one row.")
    if array.ndim != 2 or array.shape[1] != len(NAMES):
        raise PhenotypeError(
            f"phenotypes of shape {array.shape}, expected ({len(NAMES)},) or (B, {len(NAMES)}) in the order of"
            " cpgg_hf.phenotypes.NAMES; name the columns if only some are given."
        )
    return array


def _columns_of(names: Iterable[Any]) -> dict[int, Any]:
    columns: dict[int, Any] = {}
    for name in names:
        if str(name).strip().lower() in IDENTIFIER_COLUMNS:
            continue
        index = phenotype_index(name)
        if index in columns:
            other = str(columns[index])
            raise PhenotypeError(f"columns {other!r} and {str(name)!r} are both {NAMES[index]}; keep one.")
        columns[index] = name
    return columns


def _from_columns(table: Mapping[Any, Any]) -> np.ndarray:
    columns = _columns_of(table)
    if table and not columns:  # a table that names nothing at all asks for any heart
        raise PhenotypeError(_NO_PHENOTYPE)
    values = {index: _column_values(table[name]) for index, name in columns.items()}
    lengths = {len(column) for column in values.values()} or {1}
    if len(lengths) > 1:
        raise PhenotypeError(
            f"columns of different lengths {sorted(lengths)}; give one value per row in every column."
        )
    array = np.full((lengths.pop(), len(NAMES)), np.nan)
    for index, column in values.items():
        array[:, index] = [_number(value, index, row) for row, value in enumerate(column)]
    return _check_shape(array)


def _from_rows(rows: Sequence[Mapping[Any, Any]]) -> np.ndarray:
    array = np.full((len(rows), len(NAMES)), np.nan)
    found: set[int] = set()
    for row, values in enumerate(rows):
        if not isinstance(values, Mapping):
            raise PhenotypeError(f"row {row} is a {type(values).__name__} among dicts; give all rows as dicts.")
        found.update(columns := _columns_of(values))
        for index, name in columns.items():
            array[row, index] = _number(values[name], index, row)
    if any(rows) and not found:
        raise PhenotypeError(_NO_PHENOTYPE)
    return array


def _column_values(values: Any) -> Sequence[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    if isinstance(values, np.ndarray) or hasattr(values, "to_list"):
        values = values.tolist()
    return values if isinstance(values, list | tuple) else [values]


def _number(value: Any, index: int, row: int) -> float:
    # pandas' NA prints as <NA>.
    if value is None or str(value).strip().lower() in ("", "na", "nan", "<na>"):
        return np.nan
    try:
        if isinstance(value, bool | np.bool_) or "_" in str(value):  # which `float` takes
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise PhenotypeError(
            f"row {row}: {NAMES[index]} = {reprlib.repr(value)} is not a number; give it in"
            f" {PHENOTYPES[index].unit}, or leave it out."
        ) from error


# ---- cpgg_hf.pipeline_cpgg


OUTPUT_TYPES = ("np", "pt", "pil", "latent")


_MODELS = {"phenotype_vae": "CPGGPhenotypeVAE", "mar": "CPGGMARModel", "vae": "AutoencoderKLCPGG"}


_DEFAULTS = {**vars(GenerationSettings()), "pixel_spacing_mm": 1.8, "micro_batch_size": 8}


_COMPONENTS = _MODELS | {"scheduler": "SchedulerMixin"}


@dataclass
class CPGGPipelineOutput(BaseOutput):

    cines: Any
    phenotypes: pd.DataFrame
    spacing_mm: float
    frame_time_ms: np.ndarray
    seeds: np.ndarray


class _Interrupted(Exception):  # noqa: N818 (not an error: how a callback stops the MAR's decoding)

    def __init__(self, latents: torch.Tensor):
        super().__init__()
        self.latents = latents


class CPGGPipeline(DiffusionPipeline):  # type: ignore[misc]
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
        filled = requested.copy()
        incomplete = np.flatnonzero(np.isnan(requested).any(axis=1))
        if len(incomplete):
            own = [generators[row] for row in incomplete]
            filled[incomplete] = self.phenotype_vae.sample_conditional(requested[incomplete], generator=own)
        return filled

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
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
    return class_name in {base.__name__ for base in type(component).__mro__}


def _expand(phenotypes: Any, num_samples: int | None) -> np.ndarray:
    num_samples = 1 if num_samples is None else num_samples
    if not isinstance(num_samples, Integral) or num_samples < 1:
        raise ValueError(f"num_samples must be a whole number of at least 1, given {num_samples!r}.")
    array = np.full((1, len(NAMES)), np.nan) if phenotypes is None else complete_identities(as_array(phenotypes))
    return np.repeat(array, num_samples, axis=0)


def _sample_generators(
    generator: torch.Generator | list[torch.Generator] | None, num_samples: int
) -> tuple[list[tuple[torch.Generator, ...]], list[int]]:
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
