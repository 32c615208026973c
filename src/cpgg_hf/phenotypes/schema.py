"""The 82 cardiac phenotypes (UK Biobank fields 24100-24181), their names, units and plausible ranges.

CPGG (arXiv 2505.03426) conditions every cine on them. The table is `ukb_phenotypes.csv` beside this file; definitions
follow Bai et al. 2020 (doi 10.1038/s41591-020-1009-y).
"""

import csv
import difflib
import re
import reprlib
from dataclasses import dataclass
from importlib import resources

from cpgg_hf.errors import PhenotypeError

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
    """One of the 82.

    Attributes:
        field_id: UK Biobank field number, 24100 to 24181.
        name: UK Biobank's description.
        short_name: the name used everywhere in this package, e.g. `LVEF`.
        unit: the physical unit of every value.
        mean: population mean in `unit` (see `source`).
        sd: population standard deviation in `unit` (see `source`).
        minimum: smallest plausible value.
        maximum: largest plausible value.
        source: where mean and sd come from; many are assumed. Not clinical reference ranges.
        measurable: whether it can be read from a four-chamber cine of known pixel size and frame time.
    """

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
    table = resources.files(__package__).joinpath("ukb_phenotypes.csv").read_text(encoding="utf-8")
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
    """Position (0 to 81) of a phenotype.

    Args:
        name_or_field: short name in any case (`"LVEF"`, `"lvef"`), a field number (`24103`, `"24103"`) or a UK
            Biobank column name (`"24103-2.0"`, `"f.24103.2.0"`, `"p24103_i2"`).

    Raises:
        PhenotypeError: the name is unknown; the message gives the nearest valid one.
    """
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
