import pytest
import torch

from cpgg_hf.errors import TrainingError
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.configuration import parse_arguments
from cpgg_hf.training.loop import train
from cpgg_hf.training.stages import scan_segmenter
from cpgg_hf.training.stages.scan_segmenter import ScanSegmenterArguments, ScanSegmenterStage
from cpgg_hf.training.stages.segmenters import soft_dice

from ..conftest import log_of


def test_a_run_learns_and_ends_with_a_segmenter_that_says_how_it_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("cpgg_hf.segmentation.rendered.SUBJECTS_PER_FILE", 2)
    monkeypatch.setattr(scan_segmenter, "_VALIDATION_HEARTS", 4)
    values = {
        "output_dir": tmp_path / "run", "data": tmp_path / "hearts", "num_subjects": 2, "validation_steps": 60,
        "max_train_steps": 60, "batch_size": 2, "logging_steps": 1, "learning_rate": 3e-2, "model.norm_num_groups": 2,
    }  # fmt: skip
    flags = [str(part) for name, value in values.items() for part in (f"--{name}", value)]
    stage = ScanSegmenterStage(
        parse_arguments(ScanSegmenterArguments, [*flags, "--model.block_out_channels", "[4, 8]"])
    )
    train(stage)
    lines = log_of(tmp_path / "run")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert 0 <= lines[-1]["validation_dice_LV_cavity"] <= 1
    segmenter = CineSegmenter.from_pretrained(tmp_path / "run" / "ema")
    assert segmenter.config.training_record["training_hearts"].startswith("2 of ")
    assert tuple(segmenter.config.context_frames) == (-10, 0, 10)


def test_a_network_to_start_from_keeps_its_own_settings(tmp_path):
    CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2).save_pretrained(tmp_path / "trained")
    flags = ["--output_dir", "run", "--data", "hearts", "--max_train_steps", "1", "--init_from", tmp_path / "trained"]
    arguments = parse_arguments(ScanSegmenterArguments, [*map(str, flags), "--model.norm_num_groups", "4"])
    with pytest.raises(TrainingError, match="model settings come from init_from"):
        ScanSegmenterStage(arguments).build()
    arguments.model = {}
    assert ScanSegmenterStage(arguments).build().config.norm_num_groups == 2


def test_dice_is_that_of_the_textbook():
    given, expected = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    given[0, 0, :2], expected[0, 0, 1:3] = 1, 1  # 8 pixels each, 4 shared
    given[0, 1, 0], expected[0, 1, 3] = 1, 1
    assert soft_dice(given, expected)[0].tolist() == pytest.approx([0.5, 0, 1], abs=1e-3)
