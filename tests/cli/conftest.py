import json

import pytest
from publishing import checkpoint, network, no_waiting
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf import phantom
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.phenotypes import phenotype_index


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="session")
def subject(tmp_path_factory):
    """A phantom as a NIfTI file, and two of its phenotypes as JSON."""
    folder = tmp_path_factory.mktemp("subject")
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    write_nifti(folder / "cine.nii.gz", heart.cine)
    known = {name: float(heart.phenotypes[phenotype_index(name)]) for name in ("LVEDV", "LVCO")}
    (folder / "phenotypes.json").write_text(json.dumps({"phenotypes": known}))
    return folder


__all__ = ["checkpoint", "model", "network", "no_waiting", "subject"]
