"""The card of a cine data set: `README.md` with metadata for the Hub and a description for readers.

The text is in `card.md` beside this file. Its YAML names the splits, so that the Hub's viewer and plain
`datasets.load_dataset(folder_or_repository)` find them.
"""

import os
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.data_policy import LICENSES, strictest
from cpgg_hf.dataset.card_statistics import SplitStatistics, plot_phenotypes, read_statistics
from cpgg_hf.dataset.parquet import read_description
from cpgg_hf.dataset.rows import row_schema
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.files.staging import staged_file
from cpgg_hf.phenotypes import PHENOTYPES

CARD_FILE = "README.md"
PLOT_FILE = "phenotypes.png"

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


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
    from huggingface_hub import DatasetCard

    folder = Path(folder)
    description = read_description(folder)
    splits = read_statistics(folder)
    plotted = any(np.isfinite(split.phenotypes).any() for split in splits.values())
    plotted &= find_spec("matplotlib") is not None
    if plotted:
        plot_phenotypes(splits, folder / PLOT_FILE)
    else:
        (folder / PLOT_FILE).unlink(missing_ok=True)
    policy = strictest(policy for split in splits.values() for policy in split.labels["data_policy"])
    shapes = sorted({shape for split in splits.values() for shape in split.shapes})
    with resources.as_file(resources.files(__package__).joinpath("card.md")) as template:
        card = DatasetCard.from_template(
            _metadata(splits, policy, description["format_version"]),
            template_path=str(template),
            policy=policy,
            sources=_listed(splits, "source"),
            views=_listed(splits, "view"),
            shapes=" or ".join(" x ".join(map(str, shape)) for shape in shapes),
            spacing_mm=_range(splits, "spacing_mm", 2),
            frame_time_ms=_range(splits, "frame_time_ms", 1),
            splits=splits,
            types=_types(),
            phenotypes=[
                (phenotype, [_cell(split, i) for split in splits.values()]) for i, phenotype in enumerate(PHENOTYPES)
            ],
            plot=PLOT_FILE if plotted else None,
            details={
                key: description[key] for key in description if key not in ("splits", "cines_per_group", "sha256")
            },
        )
    with staged_file(folder / CARD_FILE) as partial:
        partial.write_text(card.content.rstrip() + "\n", encoding="utf-8")
    record_policy(folder, policy, [folder / CARD_FILE, *([folder / PLOT_FILE] if plotted else [])])
    return folder / CARD_FILE


def _metadata(splits: Mapping[str, SplitStatistics], policy: str, format_version: int) -> Any:
    from huggingface_hub import DatasetCardData

    num_cines = sum(split.num_cines for split in splits.values())
    return DatasetCardData(
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
        format_version=format_version,
    )


def _types() -> dict[str, str]:
    """The type of each column."""
    types = {field.name: field.type for field in row_schema()}
    return {name: f"list of {t.value_type}" if hasattr(t, "value_type") else str(t) for name, t in types.items()}


def _cell(split: SplitStatistics, index: int) -> str:
    given = split.known(index)
    if not len(given):
        return "not known"
    text = f"{given.mean():.4g} ({given.std():.2g})"
    if len(given) == split.num_cines:
        return text
    return f"{text}, {len(given):,} {'cine' if len(given) == 1 else 'cines'}"


def _listed(splits: Mapping[str, SplitStatistics], label: str) -> str:
    return ", ".join(sorted({value for split in splits.values() for value in split.labels[label]})) or "none"


def _range(splits: Mapping[str, SplitStatistics], quantity: str, digits: int) -> str:
    ranges = np.array([split.ranges[quantity] for split in splits.values() if split.ranges])
    if not len(ranges):
        return "no"
    low, high = (f"{value:.{digits}f}" for value in (ranges.min(), ranges.max()))
    return low if low == high else f"{low} to {high}"
