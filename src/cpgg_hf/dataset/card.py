"""The card of a cine data set: `README.md` with metadata for the hub and a description for readers.

Its YAML names the splits, so that the hub's viewer and plain `datasets.load_dataset(folder_or_repository)` find them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.data_policy import LICENSES, strictest
from cpgg_hf.dataset.card_statistics import SplitStatistics, plot_phenotypes, read_statistics
from cpgg_hf.dataset.parquet import read_description
from cpgg_hf.dataset.rows import PREVIEW_COLUMN, row_schema
from cpgg_hf.files.staging import staged_file
from cpgg_hf.phenotypes import PHENOTYPES

CARD_FILE = "README.md"
PLOT_FILE = "phenotypes.png"

_POLICY_TEXTS = {
    "restricted": "**Restricted: must not be published.** Contains data of patients or study participants, or data "
    "derived from them, and must not leave the environment it was approved for.",
    "public": "Made from public data under the licence of its source. State that licence here and cite the source "
    "before you share the data.",
    "phantom": "Synthetic phantoms, or cines from a model trained only on phantoms: no patient is involved. May be "
    "shared under Apache-2.0.",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "preview": "image: frame 0 (end diastole) and end systole side by side, lossy, for browsing only",
    "subject": "name within this data set",
    "phenotypes": "82 numbers in physical units, in the order of the table below, NaN = missing",
    "spacing_mm": "pixel size in mm",
    "frame_time_ms": "time from one frame to the next in ms; the frames span one heart beat",
    "view": "view, as recognised during preparation",
    "source": "origin: phantom, cpgg (generated), dicom, nifti, ...",
    "seed": "seed of a synthetic cine",
    "data_policy": "restricted, public or phantom",
    "measured": "82 numbers: phenotypes measured in a generated cine, if it was verified, NaN = not measurable",
    "attempt": "how many cines were generated for these phenotypes, this one included",
    "shape": "frames, rows, columns of the cine",
    "cine": "uint8 pixels in C order, frame 0 followed by differences from frame to frame modulo 256 (lossless)",
}


def write_card(folder: str | os.PathLike[str]) -> Path:
    """Write `README.md`, and `phenotypes.png` where matplotlib is installed, from the folder's shards.

    Call it after `write_description`, and again whenever the data change.

    Args:
        folder: a finished cine data set.

    Returns:
        The card.

    Raises:
        InputError: no data set there, or shards that are missing.
    """
    folder = Path(folder)
    description = read_description(folder)
    splits = read_statistics(folder)
    known = any(np.isfinite(split.phenotypes).any() for split in splits.values())
    if known and find_spec("matplotlib") is not None:
        plot_phenotypes(splits, folder / PLOT_FILE)
    else:
        (folder / PLOT_FILE).unlink(missing_ok=True)
    sections = [
        _front_matter(splits, description),
        f"# Cine cardiac MRI: {_listed(splits, 'source')}",
        _summary(splits),
        _counts(splits),
        "## Reading it\n\n" + _READING.format(split=next(iter(splits), "train")),
        "## Columns\n\n" + _columns(),
        _phenotypes(splits, (folder / PLOT_FILE).exists()),
        "## How it was made\n\n" + _details(description),
        "## Licence and data policy\n\n" + _POLICY_TEXTS[_policy(splits)],
    ]
    with staged_file(folder / CARD_FILE) as partial:
        partial.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return folder / CARD_FILE


def _front_matter(splits: Mapping[str, SplitStatistics], description: Mapping[str, Any]) -> str:
    from huggingface_hub import DatasetCardData

    policy = _policy(splits)
    num_cines = sum(split.num_cines for split in splits.values())
    data = DatasetCardData(
        **LICENSES[policy],  # type: ignore[arg-type]
        pretty_name=f"Cine cardiac MRI: {_listed(splits, 'source')}",
        size_categories=[next((name for limit, name in _SIZES if num_cines < limit), "n>1M")],
        tags=["cardiac-mri", "cine", "medical", "cpgg", *sorted({"phantom"} & {policy})],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*.parquet"} for split in splits],
            }
        ],
        data_policy=policy,
        format_version=description["format_version"],
    )
    return f"---\n{data.to_yaml()}\n---"


def _policy(splits: Mapping[str, SplitStatistics]) -> str:
    """The strictest policy of any row."""
    return strictest(policy for split in splits.values() for policy in split.labels["data_policy"])


def _summary(splits: Mapping[str, SplitStatistics]) -> str:
    shapes = sorted({shape for split in splits.values() for shape in split.shapes})
    shape = " or ".join(" x ".join(map(str, one)) for one in shapes)
    return (
        f"Beating hearts, view {_listed(splits, 'view')}: {shape} (frames, rows, columns) of uint8, pixels of "
        f"{_range(splits, 'spacing_mm', 2)} mm, {_range(splits, 'frame_time_ms', 1)} ms per frame; frame 0 is end "
        "diastole. Each cine comes with its known phenotypes out of 82."
    )


def _counts(splits: Mapping[str, SplitStatistics]) -> str:
    rows = [
        (name, f"{split.num_cines:,}", f"{split.num_shards:,}", f"{split.num_bytes / 1e6:,.1f}")
        for name, split in splits.items()
    ]
    return _table(("split", "cines", "shards", "MB"), rows)


_READING = """```python
from cpgg_hf.dataset import load_cines

rows = load_cines("this folder or repository", "{split}", streaming=True)
next(iter(rows))["cine"]  # (frames, rows, columns) uint8
```

Without that package, `datasets.load_dataset` reads the same rows, and NumPy the cine of one:

```python
cine = np.cumsum(np.frombuffer(row["cine"], np.uint8).reshape(row["shape"]), axis=0, dtype=np.uint8)
```"""


def _columns() -> str:
    rows = []
    for name, text in _COLUMNS.items():
        stored = row_schema().field(name).type
        listed = f"list of {stored.value_type}" if hasattr(stored, "value_type") else str(stored)
        rows.append((f"`{name}`", "image" if name == PREVIEW_COLUMN else listed, text))
    return _table(("column", "type", "content"), rows)


def _phenotypes(splits: Mapping[str, SplitStatistics], plotted: bool) -> str:
    text = (
        "## Phenotypes\n\nUK Biobank fields 24100 to 24181, in physical units: mean (sd) of the cines that have them."
    )
    if plotted:
        text += f"\n\n![Distributions of the main phenotypes]({PLOT_FILE})"
    rows = []
    for index, phenotype in enumerate(PHENOTYPES):
        cells = [_cell(split, index) for split in splits.values()]
        rows.append((str(index), str(phenotype.field_id), f"`{phenotype.short_name}`", phenotype.unit, *cells))
    table = _table(("index", "field", "name", "unit", *splits), rows)
    return f"{text}\n\n<details>\n<summary>All 82</summary>\n\n{table}\n\n</details>"


def _cell(split: SplitStatistics, index: int) -> str:
    given = split.known(index)
    if not len(given):
        return "not known"
    text = f"{given.mean():.4g} ({given.std():.2g})"
    if len(given) == split.num_cines:
        return text
    return f"{text}, {len(given):,} {'cine' if len(given) == 1 else 'cines'}"


def _details(description: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in description.items() if key not in ("splits", "cines_per_group")}
    return "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in shown.items())


def _listed(splits: Mapping[str, SplitStatistics], label: str) -> str:
    return ", ".join(sorted({value for split in splits.values() for value in split.labels[label]})) or "none"


def _range(splits: Mapping[str, SplitStatistics], quantity: str, digits: int) -> str:
    ranges = np.array([split.ranges[quantity] for split in splits.values() if split.ranges])
    if not len(ranges):
        return "no"
    low, high = (f"{value:.{digits}f}" for value in (ranges.min(), ranges.max()))
    return low if low == high else f"{low} to {high}"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
