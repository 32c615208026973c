"""Mutated phenotype tables and JSON files through `cpgg sample-phenotypes`: a table as requested, or one sentence."""

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import tiny_pipeline

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes import PHENOTYPES, complete_identities, read_csv
from cpgg_hf.phenotypes.json_file import read_json

from .cases import Tally, case_numbers, draw_of
from .judging import fault_of_notes, fault_of_refusal, reason_class, run
from .table_mutations import mutated_csv, mutated_json

_KNOWN = {"LVEDV": 150.0, "LVESV": 60.0, "LVCO": 5.5, "LVM": 90.0, "Ell_Global": -18.0}


@pytest.fixture
def _one_pipeline(monkeypatch):
    """The model is the same for every case: loaded once."""
    pipe = tiny_pipeline()
    monkeypatch.setattr("cpgg_hf.cli.models.load_pipeline", lambda *_: pipe)


@pytest.mark.usefixtures("_one_pipeline")
def test_requests(tmp_path):
    tally = Tally("request")
    rows = [["subject", *_KNOWN], ["p1", *map(str, _KNOWN.values())], ["p2", "", "50", "", "", ""]]
    rows.append(["p3", *(f"{item.mean:g}" for item in PHENOTYPES if item.short_name in _KNOWN)])
    for number in case_numbers("request"):
        draw = draw_of("request", number)
        as_csv = draw.random() < 0.7
        path, out = tmp_path / ("asked.csv" if as_csv else "asked.json"), tmp_path / "out.csv"
        path.write_bytes(mutated_csv(rows, draw) if as_csv else mutated_json(_KNOWN, draw))
        code, _, err = run("sample-phenotypes", "--phenotypes", path, "--out", out)
        if code == 0:
            asked = complete_identities(read_csv(path)) if as_csv else read_json(path)[None]
            tally.add(number, "used", fault_of_notes(err) or _fault_of_sample(out, asked))
            out.unlink()
        else:
            tally.add(number, reason_class(err), fault_of_refusal(code, err))
        assert [one.name for one in tmp_path.iterdir()] == [path.name], f"request:{number} left something behind"
        path.unlink()
    tally.finish()


def _fault_of_sample(out: Path, asked: np.ndarray) -> str | None:
    try:
        sampled = read_csv(out)
    except PhenotypeError as error:
        return f"the sample is no table of phenotypes: {error}"
    if sampled.shape != asked.shape or not np.isfinite(sampled).all():
        return f"a sample of shape {sampled.shape} for {asked.shape}, finite: {np.isfinite(sampled).mean():.2f}"
    given = np.isfinite(asked)
    if not np.allclose(sampled[given], asked[given], rtol=1e-6):
        return "the sample does not have the requested values"
    return None
