"""The README's commands and Python code work as printed; a tiny checkpoint takes the place of the shipped one."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from dicom_files import write_dicom_series
from phantom_zips import write_ukb_zips
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf import phantom
from cpgg_hf.cli.main import build_parser, main
from cpgg_hf.phenotypes import phenotype_index, read_csv
from tests.cli.running import FEW_STEPS
from tests.preparation.layouts.phantom_files import heart as small_heart
from tests.preparation.layouts.phantom_files import save_stack_of_nifti

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^(?:cpgg|python|accelerate) .*", README, re.M)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like the repository's root, with a subject's DICOM series and known phenotypes, and two cohorts."""
    place = tmp_path_factory.mktemp("clone")
    save_tiny_checkpoint(place / "checkpoints" / "cpgg-phantom-small")
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    field = np.pad(heart.cine.pixels, ((0, 0), (16, 16), (16, 16)), mode="edge")
    write_dicom_series(place / "SERIES_FOLDER", field[::2], spacing=(1.8, 1.8))
    patient = place / "ACDC_FOLDER" / "training" / "patient001"
    save_stack_of_nifti(patient / "patient001_4d.nii.gz", small_heart())
    (patient / "Info.cfg").write_text("ED: 1\nES: 5\n")
    write_ukb_zips(place / "ukb", 1)
    (place / "ukb" / "bulk").rename(place / "ZIP_FOLDER")
    (place / "ukb" / "phenotypes.csv").rename(place / "TABLE.csv")
    (known,) = re.findall(r'`({"phenotypes": .*})`', README)
    (place / "partial.json").write_text(known)
    return place


@pytest.fixture(autouse=True)
def _in_place(place, monkeypatch):
    monkeypatch.chdir(place)


def test_its_commands_run_in_their_order(capsys):
    for words in COMMANDS:
        if words[0] == "cpgg" and words[1:3] != ["prepare", "phantom"]:
            few_steps = FEW_STEPS if words[1] == "generate" else []
            assert main([*words[1:], *few_steps]) == 0, capsys.readouterr().err
    table = read_csv("outputs/phenotypes.csv")
    assert len(table) == 100
    assert (table[:, phenotype_index("LVEF")] == 30).all()
    assert len(list(Path("outputs/hearts").glob("*.gif"))) == 4
    report = json.loads(Path("outputs/report/report.json").read_text())
    assert {row["phenotype"]: row["known"] for row in report["phenotypes"]}["LVEDV"] == 150
    for folder in ("data/acdc", "data/ukb", "outputs/failing"):
        assert list(Path(folder).glob("*.parquet"))


def test_its_python_says_what_it_gives():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict = {}
    exec(code, names)
    output = names["out"]
    assert "# (2, 50, 96, 96) float32 in [0, 1]" in code
    assert (output.cines.shape, output.cines.dtype.name) == ((2, 50, 96, 96), "float32")
    assert (output.phenotypes[["LVEDV", "LVEF"]] == [220.0, 30.0]).all(axis=None)


def test_its_training_commands_find_what_they_read():
    """Scripts and presets exist, and each stage reads what a command before it writes."""
    written, vaes, same_latents = set(), set(), {}
    for words in COMMANDS:
        flags = {word: words[index + 1] for index, word in enumerate(words[:-1]) if word.startswith("--")}
        if words[:3] == ["cpgg", "prepare", "phantom"]:
            build_parser().parse_args(words[1:])
        elif words[0] in ("python", "accelerate"):
            assert (ROOT / next(word for word in words if word.endswith(".py"))).is_file()
            settings = yaml.safe_load((ROOT / flags["--config"]).read_text()) if "--config" in flags else {}
            names = ("data", "init_from", "vae", "phenotype_vae", "mar")
            read = [settings.get(name) or flags.get(f"--{name}") for name in names]
            assert {str(Path(*Path(path).parts[:2])) for path in read if path} <= written, words
            written.add(settings.get("output_dir"))
            if settings.get("freeze_encoder"):
                same_latents[f"{settings['output_dir']}/ema"] = settings["init_from"]
            vae = settings.get("vae") or (flags.get("--vae") if "--mar" in flags else None)
            vaes.add(same_latents.get(vae, vae))
        written.add(flags.get("--out"))
    assert "runs/my_checkpoint" in written
    assert len(vaes - {None}) == 1, "the MAR must be assembled with the 3D-VAE whose latents it has learned"


def test_its_links_and_make_targets_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"make (?!and)(\w+)", README):
        assert target in targets, target
