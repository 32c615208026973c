"""The scripts between the stages: what they write, and that they refuse in one sentence."""

import importlib
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf.cli.main import exit_code
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.pipeline_cpgg import CPGGPipeline
from cpgg_hf.segmentation.segmenter import load_segmenter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    """Runs a script as its command does, in this process."""
    monkeypatch.syspath_prepend(ROOT / "training_scripts")

    def start(name, **flags):
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        monkeypatch.setattr("sys.argv", [name, *words])
        return exit_code(importlib.import_module(name).main)

    return start


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("parts") / "tiny")
    return {name: folder / name for name in ("phenotype_vae", "vae", "mar", "cine_segmenter", "scan_segmenter")}


def test_an_assembled_checkpoint_has_its_segmenters(script, parts, tmp_path):
    assert script("assemble_pipeline", **parts, out=tmp_path / "out") == 0
    assert CPGGPipeline.from_pretrained(tmp_path / "out").mar.num_parameters() > 0
    for name in ("cine_segmenter", "scan_segmenter"):
        given, copied = (load_segmenter(str(folder)) for folder in (parts[name], tmp_path / "out" / name))
        assert copied.config.context_frames == given.config.context_frames
    del parts["cine_segmenter"], parts["scan_segmenter"]
    assert script("assemble_pipeline", **parts, out=tmp_path / "shipped") == 0
    for name in ("cine_segmenter", "scan_segmenter"):
        one, other = (
            load_file(next((folder / name).glob("*.safetensors")))
            for folder in (ROOT / "checkpoints" / "cpgg-phantom-small", tmp_path / "shipped")
        )
        assert all((one[key] == other[key]).all() for key in one)


def test_faults_of_an_assembly_are_one_sentence(script, parts, capsys, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    for changes, message in (
        ({"mar": "nowhere"}, "nowhere is neither a local folder nor a Hub repository"),
        ({"mar": parts["vae"]}, "CPGGMARModel"),
        ({"scan_segmenter": "nowhere"}, "nowhere is neither"),
        ({"out": tmp_path / "full"}, "exists and is not empty"),
        ({"guidance_scale": "nan"}, "guidance_scale"),
    ):
        assert script("assemble_pipeline", **{**parts, "out": tmp_path / "out", **changes}) == 1
        assert_one_sentence(capsys, message)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_pruning_keeps_channels_and_refuses_in_one_sentence(script, vae, data, capsys, tmp_path):
    given = {"vae": vae, "data": data, "out": tmp_path / "out"}
    for changes, message in (
        ({"vae": "nowhere"}, "nowhere is neither a local folder nor a Hub repository"),
        ({"data": "nowhere"}, "nowhere has no dataset.json"),
        ({"minimum_nats": 1e9}, "give a smaller --minimum_nats"),
    ):
        assert script("prune_vae", **{**given, **changes}) == 1
        assert_one_sentence(capsys, message)
    assert not (tmp_path / "out").exists()
    assert script("prune_vae", **given, minimum_nats=0) == 0
    assert AutoencoderKLCPGG.from_pretrained(tmp_path / "out").config.latent_channels == 2


def assert_one_sentence(capsys, message):
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error: ") == 1
    assert "Traceback" not in error


@pytest.mark.slow
def test_the_smoke_preset_trains_every_stage_and_generates(tmp_path):
    for name in ("training_scripts", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run(["bash", "training_scripts/smoke.sh"], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "runs" / "smoke" / "generated").glob("*.gif"))) == 2
    assert list((tmp_path / "runs" / "smoke" / "mar" / "validation").rglob("generated.gif"))
