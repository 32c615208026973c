import pytest

from cpgg_hf.errors import TrainingError
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.configuration import parse_arguments
from cpgg_hf.training.loop import train
from cpgg_hf.training.stages.cine_segmenter import CineSegmenterArguments, CineSegmenterStage


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr("cpgg_hf.segmentation.rendered.SUBJECTS_PER_FILE", 1)
    values = {
        "output_dir": tmp_path / "run", "data": tmp_path / "frames", "num_subjects": 1, "test_samples": 3,
        "validation_samples": 3, "validation_steps": 2, "max_train_steps": 2, "batch_size": 2, "logging_steps": 1,
        "learning_rate": 1e-3, "model.norm_num_groups": 2,
    }  # fmt: skip
    flags = [str(part) for name, value in values.items() for part in (f"--{name}", value)]
    return [*flags, "--model.block_out_channels", "[4, 8]"]


def test_a_run_ends_with_a_segmenter_that_says_how_it_was_trained(settings, tmp_path):
    train(CineSegmenterStage(parse_arguments(CineSegmenterArguments, settings)))
    segmenter = CineSegmenter.from_pretrained(tmp_path / "run" / "ema")
    record = segmenter.config.training_record
    assert record["steps"] == 2
    assert record["training_phantoms"].startswith("1 of ")
    assert record["test_phantoms"].startswith("3 of ")
    assert {"LVEDV", "septal_wall"} <= set(record["test_r2"])


def test_a_misspelt_network_setting_is_named(settings):
    with pytest.raises(TrainingError, match="norm_num_groups"):
        train(CineSegmenterStage(parse_arguments(CineSegmenterArguments, [*settings, "--model.norm_groups", "2"])))
