"""Cards: what the hub's own reader finds in them, and that every figure comes from a file."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from cpgg_hf.cli.models import SHIPPED_CHECKPOINT
from cpgg_hf.errors import PublishingError
from cpgg_hf.release.checkpoint_description import describe_parts
from cpgg_hf.release.model_card import make_model_card, write_model_card

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "cpgg_phantom_small"


def test_the_shipped_card_is_the_one_that_the_command_writes():
    written = (SHIPPED_CHECKPOINT / "README.md").read_text(encoding="utf-8")
    assert written == make_model_card(SHIPPED_CHECKPOINT, RESULTS), (
        "run `cpgg card checkpoints/cpgg-phantom-small --results benchmarks/results/cpgg_phantom_small`"
    )


def test_the_hubs_reader_finds_every_measured_figure():
    card = ModelCard(make_model_card(SHIPPED_CHECKPOINT, RESULTS))
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    controllability = json.loads((RESULTS / "controllability.json").read_text())["controllability"]
    for row in controllability:
        assert found[f"R2 of {row['phenotype']}, requested and measured"] == row["r2"]
    gate, fidelity = (json.loads((RESULTS / f"{part}.json").read_text()) for part in ("gate", "fidelity"))
    assert (found["PSNR"], found["SSIM"]) == (gate["psnr_db"], gate["ssim"])
    assert found["Frechet distance (random features)"] == round(fidelity["frechet"]["distance"], 4)
    assert card.data.to_dict()["data_policy"] == "phantom"
    assert card.data.license == "apache-2.0"
    assert card.data.to_dict()["co2_eq_emissions"]["emissions"] == pytest.approx(7.39 * 30 / 1000 * 400, abs=0.1)


def test_figures_follow_the_files(tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")
    path = tmp_path / "results" / "controllability.json"
    content = json.loads(path.read_text())
    (row,) = (row for row in content["controllability"] if row["phenotype"] == "LVEF")
    row["r2"], row["rmse"] = 0.1234, 9.87
    path.write_text(json.dumps(content))
    text = make_model_card(SHIPPED_CHECKPOINT, tmp_path / "results")
    assert "| LVEF | 0.123 (" in text
    assert "| 9.87 % |" in text


def test_the_numbers_of_a_network_are_those_of_its_weights(checkpoint):
    from tiny_checkpoint import tiny_components

    parts = {part["name"]: part for part in describe_parts(checkpoint)}
    assert parts.keys() >= {"mar", "vae", "phenotype_vae", "cine_segmenter"}
    for name in ("mar", "vae"):
        network = tiny_components()[name]
        assert parts[name]["num_stored"] == sum(tensor.numel() for tensor in network.state_dict().values())
    assert parts["vae"]["configuration"].endswith("latents 4 x 10 x 6 x 6")
    assert parts["mar"]["configuration"].startswith("40 tokens of 36, ")


def test_what_is_not_recorded_or_measured_is_said_to_be(checkpoint):
    text = make_model_card(checkpoint)
    assert "## Training data\nNot recorded." in text
    assert "Not measured yet." in text
    assert "## Carbon\nNot recorded." in text
    assert ModelCard(text).data.eval_results is None


def test_restricted_networks_make_a_restricted_card(checkpoint, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps({**config, "data_policy": None}))
    write_model_card(folder, repo_id="user/mixed")
    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict()["data_policy"] == "restricted"
    assert card.data.license_name == "restricted"
    assert "**Restricted: must not be published.**" in card.text
    assert 'CPGGPipeline.from_pretrained("user/mixed")' in card.text
    # Mended weights get a mended card: an old card does not stick.
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    write_model_card(folder)
    assert ModelCard.load(folder / "README.md").data.to_dict()["data_policy"] == "phantom"


def test_a_single_network_has_a_card_of_its_own(checkpoint, tmp_path):
    shutil.copytree(checkpoint / "vae", tmp_path / "vae")
    record = {"data": "cines", "hardware": "1 x CPU", "runs": [{"run": "vae", "steps": "6 of 4", "minutes": 90}]}
    (tmp_path / "vae" / "training_record.json").write_text(json.dumps(record))
    text = make_model_card(tmp_path / "vae", repo_id="user/vae")
    assert 'AutoencoderKLCPGG.from_pretrained("user/vae")' in text
    assert "| vae | 6 of 4 | 90 min | - |" in text
    assert "1.5 h of training on 1 x CPU; energy was not recorded." in text
    with pytest.raises(PublishingError, match="holds no network"):
        make_model_card(tmp_path / "vae" / "nothing")
