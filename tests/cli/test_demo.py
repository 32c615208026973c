"""The demonstration with a tiny untrained checkpoint: what it writes and prints, not how good the hearts are."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf.cli.demo import LVEDV_ML, SHOWN, controllability_sentences
from cpgg_hf.cli.main import main
from cpgg_hf.hub.policy import policy_of
from cpgg_hf.phenotypes import NAMES, phenotype_index


def test_demo_writes_ordered_hearts_pictures_and_a_table_and_can_run_again(tmp_path, capsys):
    model, out = save_tiny_checkpoint(tmp_path / "model"), tmp_path / "demo"
    for _ in range(2):
        assert main(["demo", "--model", str(model), "--out", str(out)]) == 0
    count = len(LVEDV_ML)
    assert count >= 8
    expected = {
        "hearts.gif",
        "hearts.png",
        "phenotypes.csv",
        "data_policy.json",
        *(f"heart_{i + 1}.nii.gz" for i in range(count)),
    }
    assert {path.name for path in out.iterdir()} == expected
    assert policy_of(out) == "phantom"

    table = pd.read_csv(out / "phenotypes.csv")
    assert len(table) == 82 * count
    requested = table.pivot(index="heart", columns="phenotype", values="requested")
    assert requested["LVEDV"].tolist() == sorted(LVEDV_ML)
    rates = 1000 * requested["LVCO"] / requested["LVSV"]
    for heart, rate in rates.items():
        image = nibabel.load(out / f"heart_{heart}.nii.gz")
        assert image.shape == (96, 96, 1, 50)
        np.testing.assert_allclose(image.header.get_zooms()[:2], 1.8)
        assert image.header.get_zooms()[3] == pytest.approx(60000 / rate / 50)
    with Image.open(out / "hearts.gif") as gif:
        assert gif.n_frames > 10
    with Image.open(out / "hearts.png") as sheet:
        assert sheet.width > 2 * sheet.height  # eight columns, two rows

    printed = capsys.readouterr()
    assert "generating 8 hearts with LVEDV from 90 to 250 mL" in printed.err
    assert all(f"  {name}" in printed.out for name in SHOWN)


def test_controllability_is_reported_in_the_units_of_the_phenotypes():
    requested = np.full((4, len(NAMES)), np.nan)
    measured = requested.copy()
    index = phenotype_index("LVEDV")
    requested[:, index], measured[:, index] = [100, 120, 140, 160], [110, 120, 150, np.nan]
    assert controllability_sentences(requested, measured, ("LVEDV",)) == (
        "  LVEDV    measurable in 3 of 4 hearts: requested 100 to 140 mL, measured 110 to 150 mL,"
        " bias 6.7 mL, RMSE 8.2 mL"
    )
