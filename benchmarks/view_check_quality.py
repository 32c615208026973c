"""How often the image tells a four-chamber view from others where the plane is unknown.

    python benchmarks/view_check_quality.py --segmenter checkpoints/cpgg-phantom-small/scan_segmenter

Whole beats of held-out hearts in random contrasts, poses and surroundings, segmented as scans are: four-chamber views,
short axes, two-chamber and three-chamber planes (with an aortic root in place of the right atrium, and without), and
fields without a heart. "before" is the check by the chambers' areas alone (`require_heart`), "with" the one by their
arrangement too (`image_view.py`, which takes its limits from seed 1). No real scan is used.
"""

import argparse
import json
import platform
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from cpgg_hf.errors import InputError
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.preparation.grid.heart_segmentation import require_heart, segment_field
from cpgg_hf.preparation.grid.image_view import four_chamber_doubts
from cpgg_hf.segmentation.heart_shapes import NUM_TIMES, STRUCTURES, VIEW_OF_SUBJECT, HeartShapes
from cpgg_hf.segmentation.random_fields import random_beats
from cpgg_hf.segmentation.segmenter import CineSegmenter

HEARTS = 50
_LV, _LA, _RA = (STRUCTURES.index(name) for name in ("LV cavity", "LA", "RA"))


def with_aortic_root(coverage: torch.Tensor) -> torch.Tensor:
    """A four-chamber view (10, 6, 96, 96) as a three-chamber one: an aortic root above the LV, no right atrium."""
    pixel = torch.arange(96.0)

    def centre(maps: torch.Tensor) -> torch.Tensor:
        total = maps.sum().clamp_min(1e-6)
        return torch.stack([(maps.sum(dim=(0, 2)) * pixel).sum(), (maps.sum(dim=(0, 1)) * pixel).sum()]) / total

    lv, la, ra = (centre(coverage[:, index]) for index in (_LV, _LA, _RA))
    place = lv + 0.75 * (la - lv) + 11 * (ra - la) / (ra - la).norm()
    rows, columns = torch.meshgrid(pixel, pixel, indexing="ij")
    shrunk = torch.stack([(columns - place[1]) / 0.62 + ra[1], (rows - place[0]) / 0.62 + ra[0]], dim=-1) / 47.5 - 1
    root = torch.nn.functional.grid_sample(coverage[:, _RA, None], shrunk.expand(10, -1, -1, -1), align_corners=True)
    changed = coverage.clone()
    changed[:, _RA] = 0
    changed[:, _RA] = torch.minimum(root[:, 0], (1 - changed.sum(dim=1)).clamp_min(0))
    return changed


def judge(frames: np.ndarray, segmenter: CineSegmenter) -> tuple[bool, bool]:
    """Whether a beat (10, H, W) is taken as a four-chamber view by the areas, and by the arrangement too."""
    try:
        found = segment_field(frames, SPACING_MM, segmenter)
        require_heart(found, frames, np.arange(NUM_TIMES) / NUM_TIMES, "4ch")
    except InputError:
        return False, False
    return True, not four_chamber_doubts(found.probabilities)


def run(segmenter: CineSegmenter, hearts: HeartShapes, draws: int, seed: int) -> dict[str, dict[str, int]]:
    """Counts for every kind of plane; every second four-chamber plane gets an aortic root."""
    torch.manual_seed(seed)
    counts: dict[str, Counter[str]] = {}
    for draw in range(draws):
        for index in tqdm(range(HEARTS)):
            item = hearts[[index]]
            cine, coverage = (item[name].float() / 255 for name in ("cine", "coverage"))  # type: ignore[attr-defined]
            kind, is_phantom = VIEW_OF_SUBJECT[index % len(VIEW_OF_SUBJECT)], item["is_phantom"]
            if kind == "4ch" and (index + draw) % 2:
                kind, is_phantom = "3ch with an aortic root", torch.zeros(1, dtype=torch.bool)
                coverage = with_aortic_root(coverage[0])[None]
            frames, covered = random_beats(cine, coverage, is_phantom)  # type: ignore[arg-type]
            kind = kind if covered.any() else "no heart"
            before, now = judge(frames[0].numpy(), segmenter)
            counts.setdefault(kind, Counter()).update({"fields": 1, "before": before, "with": now})
    return {kind: dict(count) for kind, count in sorted(counts.items())}


def main() -> None:
    """Judge random fields and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", required=True, help="folder of the scan segmenter")
    parser.add_argument("--data", default="runs/scan_segmenter_hearts", help="where held-out hearts are kept")
    parser.add_argument("--draws", type=int, default=4, help="random fields per heart")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "view_check_quality.json")
    arguments = parser.parse_args()
    segmenter = CineSegmenter.from_pretrained(arguments.segmenter, use_safetensors=True).eval()
    hearts = HeartShapes(arguments.data, HEARTS, "validation")
    taken = run(segmenter, hearts, arguments.draws, arguments.seed)
    result = {"taken as a four-chamber view": taken, "draws": arguments.draws, "seed": arguments.seed}
    result |= {"machine": platform.machine()}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
