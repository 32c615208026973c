"""Mutated masks through `cpgg prepare nifti --mask` and `cpgg measure --mask`: a cine and numbers, or one sentence."""

import json
import shutil

import numpy as np
import pytest
from nifti_files import write_nifti

from cpgg_hf.errors import RequestError
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

from .cases import Tally, case_numbers, draw_of
from .dicom_mutations import beating_disc
from .judging import fault_of_notes, fault_of_refusal, fault_of_series, reason_class, run
from .mask_mutations import mutated_mask, sound_masks


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A mask of one frame leaves the measuring to a network, which is not what is tried."""

    def load(*_, **__):
        raise RequestError("the mask has no labels for every frame, so a network would be asked.")

    monkeypatch.setattr("cpgg_hf.cli.models.load_segmenter", load)


def test_masks(tmp_path):
    tally, cine, out = Tally("mask"), tmp_path / "cine.nii", tmp_path / "out"
    write_nifti(cine, (beating_disc() / 1000).astype(np.float32), 110.0, 4.0)
    files = sound_masks(tmp_path)
    for path in tmp_path.glob("*.nii"):
        if path != cine:
            path.unlink()
    for number in case_numbers("mask"):
        draw = draw_of("mask", number)
        mask = mutated_mask(files, tmp_path, draw)
        code, printed, err = (
            run("measure", cine, "--mask", mask, "--json")
            if number % 3 == 0
            else run("prepare", "nifti", cine, "--mask", mask, "--out", out)
        )
        if code != 0:
            tally.add(number, reason_class(err), fault_of_refusal(code, err))
        elif number % 3 == 0:
            tally.add(number, "used", fault_of_notes(err) or _fault_of_measurement(printed))
        else:
            tally.add(number, "used", fault_of_notes(err) or fault_of_series(out))
            shutil.rmtree(out)
        mask.unlink()
        assert [path.name for path in tmp_path.iterdir()] == [cine.name], f"mask:{number} left something behind"
    tally.finish()


def _fault_of_measurement(printed: str) -> str | None:
    """What is wrong with what `cpgg measure --json` says."""
    measured = json.loads(printed, parse_constant=lambda name: [name])
    curves = [volume for curve in measured["volume_curves_ml"].values() for volume in curve]
    if not all(isinstance(volume, float) and volume >= 0 for volume in curves):
        return f"volume curves {measured['volume_curves_ml']}"
    for name, value in measured["phenotypes"].items():
        phenotype = PHENOTYPES[phenotype_index(name)]
        if not phenotype.minimum <= value <= phenotype.maximum:
            return f"{name} = {value}"
    return None
