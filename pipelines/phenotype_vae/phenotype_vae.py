"""CPGGPhenotypeVAE of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.

Generated from the sources of cpgg_hf by `cpgg export-remote-code`, do not edit. Apache-2.0.
"""

import csv
import difflib
import numpy as np
import os
import re
import reprlib
import textwrap
import torch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from itertools import pairwise
from torch import nn
from typing import Any


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


def pulse_pressure(array: np.ndarray) -> np.ndarray:
    ascending, descending = (_pulse_pressure(array, aorta) for aorta in AORTAS)
    return np.where(np.isnan(ascending), descending, ascending)


def enforce_identities(array: np.ndarray) -> np.ndarray:
    result = np.array(array, dtype=np.float64)
    result[:, DERIVED_INDICES] = _derived(result)
    return result


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


# ---- cpgg_hf.phenotypes.coordinates


# The phenotypes themselves and three quantities that tie the aortic ones together.
COORDINATES: tuple[str, ...] = (*NAMES, "AAo_area_change", "DAo_area_change", "pulse_pressure")


AREA_CHANGES = (len(NAMES), len(NAMES) + 1)


PULSE_PRESSURE = len(NAMES) + 2


_CHAMBER_AND_AORTA = frozenset(index for group in (*CHAMBERS, *AORTAS) for index in group)


_PLAIN = tuple(index for index in range(len(NAMES)) if index not in _CHAMBER_AND_AORTA)


_FRACTIONS = np.array([chamber[3] for chamber in CHAMBERS])


_STRAINS = np.array([index for index, name in enumerate(NAMES) if name.startswith(("Ecc", "Err", "Ell"))])


_POSITIVE = np.setdiff1d(np.arange(len(COORDINATES)), np.concatenate([_FRACTIONS, _STRAINS]))


_SHORTENING = np.array([index for index in _STRAINS if PHENOTYPES[index].maximum <= 0])


_THICKENING = np.setdiff1d(_STRAINS, _SHORTENING)


Chart = tuple[int, ...]


def to_coordinates(array: np.ndarray) -> np.ndarray:
    changes = [array[:, largest] / array[:, smallest] - 1 for largest, smallest, _ in AORTAS]
    return np.column_stack([array, *changes, pulse_pressure(array)])


def to_unbounded(coordinates: np.ndarray) -> np.ndarray:
    result = np.array(coordinates, dtype=np.float64)
    result[:, _POSITIVE] = np.log(result[:, _POSITIVE])
    result[:, _FRACTIONS] = np.log(result[:, _FRACTIONS] / (100 - result[:, _FRACTIONS]))
    return result


def from_unbounded(unbounded: np.ndarray) -> np.ndarray:
    result = np.array(unbounded, dtype=np.float64)
    result[:, _POSITIVE] = np.exp(result[:, _POSITIVE])
    result[:, _FRACTIONS] = 100 / (1 + np.exp(-result[:, _FRACTIONS]))
    result[:, _SHORTENING] = np.minimum(result[:, _SHORTENING], 0)
    result[:, _THICKENING] = np.maximum(result[:, _THICKENING], 0)
    return result


def chart_for(phenotypes: np.ndarray) -> tuple[Chart, np.ndarray]:
    fixed = to_coordinates(phenotypes[None])[0]
    known = np.isfinite(fixed)
    for largest, smallest, _, fraction in CHAMBERS:
        # Of redundant values that agree within rounding the volumes hold.
        if known[largest] and known[smallest]:
            fixed[fraction] = 100 * (fixed[largest] - fixed[smallest]) / fixed[largest]
    chosen = [_first_known(known, chamber[:3]) for chamber in CHAMBERS]
    chosen += [_first_known(known, aorta[1::-1]) for aorta in AORTAS]
    distensibilities = [aorta[2] for aorta in AORTAS]
    if not known[PULSE_PRESSURE] and known[distensibilities].all():
        # Both distensibilities and at most one area change: the pulse pressure follows from the area change drawn.
        return _chart((*chosen, AREA_CHANGES[int(known[AREA_CHANGES[1]])], *distensibilities)), fixed
    if known[PULSE_PRESSURE]:
        for change, distensibility in zip(AREA_CHANGES, distensibilities, strict=True):
            if known[distensibility] and not known[change]:
                fixed[change] = fixed[distensibility] * fixed[PULSE_PRESSURE] / 1000
    tie = PULSE_PRESSURE
    if not known[PULSE_PRESSURE]:
        tie = next((index for index in distensibilities if known[index]), PULSE_PRESSURE)
    return _chart((*chosen, *AREA_CHANGES, tie)), fixed


def from_chart(coordinates: np.ndarray) -> np.ndarray:
    values = np.array(coordinates, dtype=np.float64)
    for aorta, change in zip(AORTAS, AREA_CHANGES, strict=True):
        pressure = 1000 * values[:, change] / values[:, aorta[2]]
        values[:, PULSE_PRESSURE] = np.where(np.isnan(values[:, PULSE_PRESSURE]), pressure, values[:, PULSE_PRESSURE])
    for (largest, smallest, distensibility), change in zip(AORTAS, AREA_CHANGES, strict=True):
        relative = values[:, distensibility] * values[:, PULSE_PRESSURE] / 1000
        relative = np.where(np.isnan(values[:, change]), relative, values[:, change])
        values[:, largest] = _either(values[:, largest], values[:, smallest] * (1 + relative))
        values[:, smallest] = _either(values[:, smallest], values[:, largest] / (1 + relative))
        values[:, distensibility] = _either(values[:, distensibility], 1000 * relative / values[:, PULSE_PRESSURE])
    return enforce_identities(fill_determined(values[:, : len(NAMES)]))


def _either(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(first), second, first)


def _first_known(known: np.ndarray, candidates: tuple[int, ...]) -> int:
    return next((index for index in candidates if known[index]), candidates[0])


def _chart(chosen: tuple[int, ...]) -> Chart:
    return tuple(sorted((*_PLAIN, *_FRACTIONS.tolist(), *chosen)))


# ---- cpgg_hf.models.phenotype_vae


class CPGGPhenotypeVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Variational autoencoder of phenotype vectors, with its scaler; all interfaces use physical units.

    `CPGGPhenotypeVAE.from_phenotypes(phenotypes)` sets the scaler, `model(phenotypes).loss` is the training loss,
    and `model.fit_sampler(phenotypes)` ends training; then `sample` and `sample_conditional` draw from the learned
    joint distribution. The defaults are the published network.

    Args:
        phenotype_mean: 82 means in physical units; None = the schema's.
        phenotype_sd: 82 standard deviations in physical units; None = the schema's.
        coordinate_mean: 85 means of the sampler's unbounded coordinates, set by `fit_sampler`.
        coordinate_sd: 85 standard deviations of the same.
        hidden_dims: widths of the encoder's blocks; the decoder mirrors them.
        latent_dim: number of latents.
        kl_weight: weight of the KL term (published: 0.01 to 0.05).
        num_mixture_components: number of Gaussians of the latents in `fit_sampler`.
        sampler_fitted: set by `fit_sampler`; without it `sample` decodes z ~ N(0, I) as published.
        data_policy: policy of the training data; None = restricted.
    """

    config: Any  # attributes are the arguments above

    @register_to_config
    def __init__(
        self,
        phenotype_mean: list[float] | None = None,
        phenotype_sd: list[float] | None = None,
        coordinate_mean: list[float] | None = None,  # noqa: ARG002 - read from the config
        coordinate_sd: list[float] | None = None,  # noqa: ARG002 - read from the config
        hidden_dims: tuple[int, ...] = (128, 128, 128),
        latent_dim: int = 32,
        kl_weight: float = 0.01,  # noqa: ARG002 - read from the config
        num_mixture_components: int = 8,
        sampler_fitted: bool = False,  # noqa: ARG002 - read from the config
        data_policy: str | None = None,  # noqa: ARG002 - read from the config
    ) -> None:
        super().__init__()
        self.register_to_config(
            phenotype_mean=[item.mean for item in PHENOTYPES] if phenotype_mean is None else list(phenotype_mean),
            phenotype_sd=[item.sd for item in PHENOTYPES] if phenotype_sd is None else list(phenotype_sd),
        )
        self.encoder = _blocks([len(NAMES), *hidden_dims])
        self.latent_mean = nn.Linear(hidden_dims[-1], latent_dim)
        self.latent_logvar = nn.Linear(hidden_dims[-1], latent_dim)
        self.decoder_input = nn.Linear(latent_dim, hidden_dims[-1])
        self.decoder = _blocks([*reversed(hidden_dims), len(NAMES)])
        self.decoder_output = nn.Linear(len(NAMES), len(NAMES))

        # Per group: latents and their decoded values (L + 82); coordinates = means + decoded @ slopes + noise.
        groups, joint, coordinates = num_mixture_components, latent_dim + len(NAMES), len(COORDINATES)
        self.register_buffer("mixture_weights", torch.full((groups,), 1 / groups))
        self.register_buffer("mixture_means", torch.zeros(groups, joint))
        self.register_buffer("mixture_covariances", torch.eye(latent_dim, joint).repeat(groups, 1, 1))
        self.register_buffer("residual_means", torch.zeros(groups, coordinates))
        self.register_buffer("residual_slopes", torch.zeros(len(NAMES), coordinates))
        self.register_buffer("residual_covariances", torch.zeros(groups, coordinates, coordinates))

    # Covariances rounded to 16 bits may be indefinite, so the model keeps float32 however it is loaded or cast.
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **options: Any) -> Any:
        """Loads a model in float32, whatever dtype is given; see [`~diffusers.ModelMixin.from_pretrained`]."""
        options = {**options, "torch_dtype": torch.float32}
        options.pop("dtype", None)
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    def _apply(self, fn, recurse: bool = True):
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            applied = fn(tensor)
            return applied if applied.dtype == tensor.dtype else tensor.to(applied.device)

        return super()._apply(apply, recurse)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, latent_dim) -> standardised phenotypes (B, 82)."""
        return self.decoder_output(self.decoder(self.decoder_input(latents)))

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | list[torch.Generator] | None = None) -> np.ndarray:
        """Samples phenotype vectors from the learned distribution.

        Args:
            num_samples: number of rows.
            generator: a list with one per row; or one generator, which draws the first row and seeds of the others;
                None = torch's global generator. A row only depends on its own generator, bit for bit.

        Returns:
            (num_samples, 82) float64 in physical units; the nine identities hold exactly.
        """
        return self.sample_conditional(np.full((num_samples, len(NAMES)), np.nan), generator)

    @torch.no_grad()
    def sample_conditional(
        self, fixed: np.ndarray, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> np.ndarray:
        """Samples the missing phenotypes from the learned distribution, given the fixed ones.

        Args:
            fixed: (B, 82) in any form that `as_array` accepts; NaN = free. Derived ones can be fixed as well.
            generator: as for `sample`.

        Returns:
            (B, 82) float64 in physical units. Fixed values and the nine identities hold exactly; of redundant values
            that only agree within rounding, the derived ones are replaced.

        Raises:
            PhenotypeError: contradictory or impossible values, or a wrong unit.
            ValueError: values are fixed but `fit_sampler` was never called; a list of generators of another length.
        """
        given = as_array(fixed)
        completed = complete_identities(given)
        generators = _generators(generator, len(given))
        if not self.config.sampler_fitted:
            if np.isfinite(given).any():
                raise ValueError(
                    "fixing values needs a fitted sampler; call fit_sampler(training_phenotypes), then save the model."
                )
            return self._sample_as_published(generators)
        sampler = _Sampler(self)
        rows = [self._draw(sampler, row, own) for row, own in zip(completed, generators, strict=True)]
        result = np.concatenate(rows)
        # An identity solved for another variable may miss a fixed value by the last bit.
        kept = np.isclose(result, given, rtol=1e-11, atol=0)
        return np.where(kept, given, enforce_identities(np.where(kept, given, result)))

    def _sample_as_published(self, generators: Iterable[torch.Generator]) -> np.ndarray:
        decoder = self._double_decoder()
        decoded = torch.cat([decoder(_normal((1, self.config.latent_dim), own)) for own in generators]).numpy()
        mean, sd = np.array(self.config.phenotype_mean), np.array(self.config.phenotype_sd)
        return enforce_identities(_possible(decoded * sd + mean))

    def _draw(self, sampler: "_Sampler", completed: np.ndarray, generator: torch.Generator) -> np.ndarray:
        chart, fixed = chart_for(completed)
        scaled = self._scale(to_unbounded(fixed[None]))[0]
        observed = tuple(index for index in chart if np.isfinite(scaled[index]))
        free = tuple(index for index in chart if not np.isfinite(scaled[index]))
        drawn = sampler.draw(torch.from_numpy(scaled), observed, free, generator)
        values = from_unbounded(self._unscale(drawn[None].numpy()))
        coordinates = np.full((1, len(COORDINATES)), np.nan)
        coordinates[0, free] = values[0, free]
        coordinates[0, observed] = fixed[list(observed)]
        return from_chart(coordinates)

    def _standardise(self, phenotypes: torch.Tensor) -> torch.Tensor:
        array = phenotypes.detach().cpu().double().numpy()
        if array.ndim != 2 or array.shape[1] != len(NAMES) or not np.isfinite(array).all():
            raise ValueError(
                f"phenotypes must be complete vectors (B, {len(NAMES)}) without NaN, given shape {array.shape}."
            )
        standardised = (array - np.array(self.config.phenotype_mean)) / np.array(self.config.phenotype_sd)
        return torch.from_numpy(standardised).to(self.device, self.dtype)

    def _double_decoder(self) -> nn.Module:
        decoder = nn.Sequential(self.decoder_input, self.decoder, self.decoder_output)
        return deepcopy(decoder).to(device="cpu", dtype=torch.float64).eval()

    def _scale(self, unbounded: np.ndarray) -> np.ndarray:
        return (unbounded - np.array(self.config.coordinate_mean)) / np.array(self.config.coordinate_sd)

    def _unscale(self, scaled: np.ndarray) -> np.ndarray:
        return scaled * np.array(self.config.coordinate_sd) + np.array(self.config.coordinate_mean)


@dataclass
class _Gains:

    predicted: torch.Tensor  # (K, O) mean of the observed coordinates
    errors: torch.Tensor  # (K, O, O) Cholesky factor of their covariance
    latents: torch.Tensor  # (K, L, O) regression of z on them
    latent_factors: torch.Tensor  # (K, L, L) Cholesky factor of z given them
    noises: torch.Tensor  # (K, F, O) regression of the free coordinates' residual on theirs
    noise_factors: torch.Tensor  # (K, F, F) Cholesky factor of its remaining covariance


class _Sampler:

    def __init__(self, model: CPGGPhenotypeVAE) -> None:
        self.decode = model._double_decoder()
        num_latents = model.config.latent_dim
        self.log_weights = model.mixture_weights.cpu().double().log()
        self.means, decoded_means = model.mixture_means.cpu().double().tensor_split([num_latents], dim=1)
        self.covariances, covariances_with_decoded = (
            model.mixture_covariances.cpu().double().tensor_split([num_latents], dim=2)
        )
        self.offsets = model.residual_means.cpu().double()
        self.slopes = model.residual_slopes.cpu().double()
        self.noises = model.residual_covariances.cpu().double()
        # Statistical linearisation: coordinates have this mean in a group, and this covariance with z.
        self.coordinate_means = self.offsets + decoded_means @ self.slopes
        self.cross_covariances = covariances_with_decoded @ self.slopes
        self.gains: dict[tuple[tuple[int, ...], ...], _Gains] = {}

    def draw(
        self, values: torch.Tensor, observed: tuple[int, ...], free: tuple[int, ...], generator: torch.Generator
    ) -> torch.Tensor:
        if (observed, free) not in self.gains:
            self.gains[observed, free] = self._gains(list(observed), list(free))
        gains = self.gains[observed, free]
        given, unknown = values[list(observed)], list(free)
        errors = (given - gains.predicted)[:, :, None]
        group = _categorical(self.log_weights + _log_normal(errors, gains.errors), generator)

        noise = gains.latent_factors[group] @ _normal(self.means.shape[1], generator)
        latents = self.means[group] + gains.latents[group] @ errors[group, :, 0] + noise
        center = self.offsets[group] + self.decode(latents[None])[0] @ self.slopes

        noise = gains.noise_factors[group] @ _normal(len(free), generator)
        result = values.clone()
        result[unknown] = center[unknown] + gains.noises[group] @ (given - center[list(observed)]) + noise
        return result

    def _gains(self, observed: list[int], free: list[int]) -> _Gains:
        cross = self.cross_covariances[:, :, observed]
        noises, noises_with_free = self.noises[:, observed][:, :, observed], self.noises[:, observed][:, :, free]
        linear = cross.mT @ torch.cholesky_solve(cross, _cholesky(self.covariances))
        errors = _cholesky(linear + noises)
        latent_gains = torch.cholesky_solve(cross.mT, errors).mT
        noise_gains = torch.cholesky_solve(noises_with_free, _cholesky(noises)).mT
        return _Gains(
            predicted=self.coordinate_means[:, observed],
            errors=errors,
            latents=latent_gains,
            latent_factors=_cholesky(self.covariances - latent_gains @ cross.mT),
            noises=noise_gains,
            noise_factors=_cholesky(self.noises[:, free][:, :, free] - noise_gains @ noises_with_free),
        )


def _blocks(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.BatchNorm1d(next_width), nn.LeakyReLU()]
    return nn.Sequential(*layers)


def _possible(decoded: np.ndarray) -> np.ndarray:
    limits = np.array([1e-3 * phenotype.mean for phenotype in PHENOTYPES])
    result = np.where(limits > 0, np.maximum(decoded, limits), np.minimum(decoded, limits))
    for largest, smallest, *_ in (*CHAMBERS, *AORTAS):
        result[:, smallest] = np.minimum(result[:, smallest], 0.99 * result[:, largest])
    return result


def _generators(generator: Any, num_rows: int) -> Iterator[torch.Generator]:
    given = given_generators(generator, num_rows)
    yield from given
    source = given[0] if given else torch.default_generator
    for seed in torch.randint(2**63 - 1, (num_rows - len(given),), generator=source, device=source.device).tolist():
        yield torch.Generator().manual_seed(seed)


def _normal(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _uniform(generator: torch.Generator) -> torch.Tensor:
    return torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _categorical(log_weights: torch.Tensor, generator: torch.Generator) -> int:
    cumulative = torch.softmax(log_weights, dim=0).cumsum(0)
    return int(torch.searchsorted(cumulative, _uniform(generator)).clamp(max=len(log_weights) - 1))


def _cholesky(covariance: torch.Tensor) -> torch.Tensor:
    # Near-identities (a global strain is almost the mean of its segments) leave covariances that float32 storage can
    # make indefinite; 1e-6 of a standardised variance is far below any measurement error.
    return torch.linalg.cholesky(covariance + 1e-6 * torch.eye(covariance.shape[-1], dtype=covariance.dtype))


def _log_normal(errors: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    squares = torch.linalg.solve_triangular(factors, errors, upper=False).square().sum(dim=(1, 2))
    return -0.5 * squares - factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
