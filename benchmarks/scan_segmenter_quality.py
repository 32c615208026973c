"""How well the scan segmenter finds hearts in synthetic scans, and which confidence threshold to use.

    python benchmarks/scan_segmenter_quality.py --segmenter checkpoints/cpgg-phantom-small/scan_segmenter

Whole beats of held-out hearts in random contrasts, poses and surroundings (`random_beats`), each segmented as a scan
is. Beside the Dice overlap of every structure: the certainty of hearts that were found well (every chamber's Dice at
least 0.6) and of those that were not, what each threshold on it would let pass, how far the middle of the heart is
off, and which view each plane was taken for. `preparation/grid/heart_segmentation.py` takes its thresholds from here.
"""

import argparse
import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from cpgg_hf.errors import InputError
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.preparation.grid.heart_segmentation import CHAMBER_NAMES, require_heart, segment_field
from cpgg_hf.segmentation.heart_shapes import NUM_TIMES, STRUCTURES, VIEW_OF_SUBJECT, HeartShapes
from cpgg_hf.segmentation.random_fields import random_beats
from cpgg_hf.segmentation.segmenter import CineSegmenter

HEARTS = 50
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
_WELL = 0.6
_HEART = [STRUCTURES.index(name) for name in (*CHAMBER_NAMES, "LV myocardium")]


def evaluate(frames: np.ndarray, truth: np.ndarray, segmenter: CineSegmenter) -> dict[str, Any]:
    """One beat (10, H, W) against its coverage (10, 6, H, W)."""
    marked = truth[:, _HEART].sum(axis=1) > 0.5
    try:
        found = segment_field(frames, SPACING_MM, segmenter)
    except InputError:
        return {"found": False, "accepted": False, "there": bool(marked.any())}
    labels = found.probabilities.argmax(axis=1)
    dice = {}
    for index, name in enumerate(STRUCTURES):
        expected, given = truth[:, index] > 0.5, labels == index + 1
        if expected.any():
            dice[name] = float(2 * (expected & given).sum() / (expected.sum() + given.sum()))
    off = np.nan
    if marked.any():
        places = np.argwhere(marked.any(axis=0))
        off = float(np.abs(found.center - (places.min(axis=0) + places.max(axis=0)) / 2).max() * SPACING_MM)
    try:
        require_heart(found, frames, np.arange(NUM_TIMES) / NUM_TIMES, "4ch")
        accepted = True
    except InputError:
        accepted = False
    return {
        "found": True,
        "accepted": accepted,
        "there": bool(marked.any()),
        "dice": dice,
        "off_mm": off,
        "certainty": found.confidence,
        "view": found.view,
        "areas_mm2": found.areas_mm2,
        "shown": [name for name in CHAMBER_NAMES if truth[:, STRUCTURES.index(name)].sum() > 0],
        "well": bool(dice) and min(value for name, value in dice.items() if name != "descending aorta") >= _WELL,
    }


def run(segmenter: CineSegmenter, hearts: HeartShapes, draws: int, seed: int) -> list[dict[str, Any]]:
    """Every held-out heart in `draws` random fields."""
    torch.manual_seed(seed)
    rows = []
    for _ in range(draws):
        for first in tqdm(range(0, HEARTS, 10)):
            batch = hearts[list(range(first, first + 10))]
            cine, coverage = (batch[name].float() / 255 for name in ("cine", "coverage"))
            frames, covered = random_beats(cine, coverage, batch["is_phantom"])
            for index, (beat, truth) in enumerate(zip(frames.numpy(), covered.numpy(), strict=True)):
                rows.append(
                    evaluate(beat, truth, segmenter)
                    | {"plane": VIEW_OF_SUBJECT[(first + index) % len(VIEW_OF_SUBJECT)]}
                )
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Tables of the results of `run`."""
    there = [row for row in rows if row["there"]]
    found = [row for row in there if row["found"]]
    certainty, well = np.array([row["certainty"] for row in found]), np.array([row["well"] for row in found])
    certainty_of_none = np.array([row["certainty"] for row in rows if row["found"] and not row["there"]])
    off = np.array([row["off_mm"] for row in found])
    passing = {}
    for threshold in THRESHOLDS:
        kept = certainty >= threshold
        passing[str(threshold)] = {
            "of hearts found well": round(float(kept[well].mean()), 3),
            "of hearts found badly": round(float(kept[~well].mean()), 3) if (~well).any() else None,
            "of fields without a heart": round(
                float((certainty_of_none >= threshold).sum() / (len(rows) - len(there))), 3
            )
            if len(rows) > len(there)
            else None,
        }
    return {
        "num_fields": len(rows),
        "num_with_a_heart": len(there),
        "num_found": len(found),
        "num_found_well": int(well.sum()),
        "dice": {
            name: round(float(np.mean([row["dice"][name] for row in found if name in row["dice"]])), 3)
            for name in STRUCTURES
        },
        "middle_off_mm": {str(q): round(float(np.quantile(off, q)), 1) for q in (0.5, 0.9, 0.95, 0.99)},
        "certainty": {
            "of hearts found well, 1st and 50th percentile": np.quantile(certainty[well], (0.01, 0.5))
            .round(3)
            .tolist(),
            "where something was found in a field without a heart": sorted(certainty_of_none.round(3).tolist()),
        },
        "passing": passing,
        "taken as a four-chamber view": {
            plane: f"{sum(row['accepted'] for row in of_plane)} of {len(of_plane)}"
            for plane, of_plane in {
                **{plane: [row for row in there if row["plane"] == plane] for plane in sorted(set(VIEW_OF_SUBJECT))},
                "no heart": [row for row in rows if not row["there"]],
            }.items()
        },
        "chamber_areas_mm2": {
            "of chambers that are there, 1st and 5th percentile": _quantiles(found, True, (0.01, 0.05)),
            "of chambers that are not, 95th and 99th percentile": _quantiles(found, False, (0.95, 0.99)),
        },
        "views": {
            plane: dict(Counter(row["view"] for row in found if row["plane"] == plane))
            for plane in sorted(set(VIEW_OF_SUBJECT))
        },
    }


def _quantiles(found: list[dict[str, Any]], there: bool, shares: tuple[float, float]) -> list[float]:
    areas = [row["areas_mm2"][name] for row in found for name in CHAMBER_NAMES if (name in row["shown"]) == there]
    return np.quantile(areas, shares).round().tolist()


def main() -> None:
    """Evaluate a segmenter and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", required=True, help="folder of the scan segmenter")
    parser.add_argument("--data", default="runs/scan_segmenter_hearts", help="where held-out hearts are kept")
    parser.add_argument("--draws", type=int, default=4, help="random fields per heart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scan_segmenter_quality.json")
    arguments = parser.parse_args()
    segmenter = CineSegmenter.from_pretrained(arguments.segmenter, use_safetensors=True).eval()
    hearts = HeartShapes(arguments.data, HEARTS, "validation")
    result = summarise(run(segmenter, hearts, arguments.draws, arguments.seed))
    result |= {"draws": arguments.draws, "seed": arguments.seed, "machine": platform.machine()}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
