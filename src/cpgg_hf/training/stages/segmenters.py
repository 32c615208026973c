"""Shared by the stages of both segmenters: losses on coverage, and the record of the training."""

from typing import Any

import torch

from cpgg_hf.training.stage import Stage


def coverage_cross_entropy(logits: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits (N, 1 + C, H, W) against the share (N, C, H, W) that each structure covers."""
    background = (1 - coverage.sum(dim=1, keepdim=True)).clamp_min(0)
    return torch.nn.functional.cross_entropy(logits, torch.cat([background, coverage], dim=1))


def soft_dice(given: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Dice overlap 2 |A B| / (|A| + |B|) of maps (N, C, H, W) in [0, 1]: (N, C), 1 where both are empty."""
    shared = (given * expected).sum(dim=(2, 3))
    return (2 * shared + 1e-3) / (given.sum(dim=(2, 3)) + expected.sum(dim=(2, 3)) + 1e-3)


def training_record(stage: Stage, subjects: str, seed_root: int) -> dict[str, Any]:
    """How a segmenter was trained, for its configuration."""
    arguments: Any = stage.arguments
    return {
        "command": f"python training_scripts/train_{stage.name}.py "
        f"--config training_scripts/configs/phantom_small_{stage.name}.yaml",
        f"training_{subjects}": f"{arguments.num_subjects} of numpy SeedSequence([{seed_root}, i])",
        "steps": arguments.max_train_steps,
        "batch_size": arguments.batch_size,
    }
