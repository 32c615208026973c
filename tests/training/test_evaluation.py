"""The validation of a MAR: cines generated from held-out phenotypes, and their evaluation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpgg_hf.errors import TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.segmentation.phantom_frames import render_subject
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.evaluation import evaluate_cines
from cpgg_hf.training.pictures import STRIP
from cpgg_hf.training.stages.mar import MARStage

from .conftest import TINY_MAR, TINY_VAE, log_of, run, write_data

SEGMENTER = Path(__file__).parents[2] / "checkpoints" / "cpgg-phantom-small" / "cine_segmenter"


def test_reference_cines_follow_their_phenotypes_and_noise_is_far_from_them():
    subjects = [render_subject("validation", index) for index in range(6)]
    hearts = [subject.cine for subject in subjects]
    true = evaluate_cines(hearts[:3], hearts, CineSegmenter.from_pretrained(SEGMENTER))
    pixels = np.random.default_rng(0).random((3, 50, 96, 96), np.float32)
    noise = evaluate_cines(
        [heart.with_pixels(other) for heart, other in zip(hearts, pixels, strict=False)], hearts, None
    )
    assert true["r2_LVEDV"] > 0.9
    assert noise["frechet"] > 5 * true["frechet"]
    assert noise.keys() == {"frechet", "frechet_floor"}


def test_a_validation_generates_cines_and_shows_them_beside_the_references(settings, tmp_path):
    shape = (12, 32, 32)
    data = write_data(tmp_path / "cines", num_train=4, num_validation=6, shape=shape)
    settings |= {"data": str(data), "vae": str(tmp_path / "vae"), "max_train_steps": 1}
    AutoencoderKLCPGG(
        **{**TINY_VAE, "sample_size": shape}, latents_mean=[0.1, -0.2], latents_std=[0.5, 2.0]
    ).save_pretrained(settings["vae"])
    model = {**TINY_MAR, "patch_size": [6, 16, 16]}
    options = {"generated_cines": 3, "generated_inference_steps": 2}
    run(MARStage, model, settings, **options)
    run(MARStage, model, settings, **options, output_dir=str(tmp_path / "again"))
    line = log_of(tmp_path / "run")[-1]
    assert line["validation_frechet"] > 0
    assert line["validation_frechet_floor"] > 0
    assert line == log_of(tmp_path / "again")[-1], "another run draws other cines"
    with Image.open(tmp_path / "run" / "validation" / "0000001" / "generated.gif") as film:
        assert film.n_frames == 12
        assert film.size == (2 * (8 * 32 + 7 * 2), 2 * (32 + STRIP))
        labels = np.asarray(film.convert("L"))[: 2 * STRIP]
    reference, generated = labels[:, :64], labels[:, 68:132]
    assert reference.max() > 200
    assert not np.array_equal(reference, generated)
    with pytest.raises(TrainingError, match="generated_cines is 4, which needs 8 held-out cines"):
        run(MARStage, model, settings, generated_cines=4, output_dir=str(tmp_path / "more"))
