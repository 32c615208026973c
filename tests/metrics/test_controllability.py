import json

import numpy as np
import pytest
import torch
from torchmetrics.functional import pearson_corrcoef
from torchmetrics.functional import r2_score as torchmetrics_r2

from cpgg_hf.metrics import controllability, to_plain
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, phenotype_index


def population(num_cines=200, seed=0):
    rng = np.random.default_rng(seed)
    means, sds = (np.array([getattr(p, key) for p in PHENOTYPES]) for key in ("mean", "sd"))
    return means + sds * rng.normal(size=(num_cines, 82)), sds


@pytest.fixture(scope="module")
def case():
    requested, sds = population()
    measured = requested + 0.3 * sds * np.random.default_rng(1).normal(size=requested.shape)
    return requested, measured, controllability(requested, measured, num_resamples=200)


def test_r2_rmse_and_r_agree_with_torchmetrics(case):
    requested, measured, table = case
    for name in ("LVEDV", "LVEF", "WT_AHA_3"):
        x, y = (torch.from_numpy(a[:, phenotype_index(name)]) for a in (requested, measured))
        assert table.loc[name, "r2"] == pytest.approx(torchmetrics_r2(y, x).item(), rel=1e-6)
        assert table.loc[name, "pearson_r"] == pytest.approx(pearson_corrcoef(y, x).item(), rel=1e-6)
        assert table.loc[name, "rmse"] == pytest.approx(float(((y - x) ** 2).mean().sqrt()), rel=1e-6)
        assert table.loc[name, "num_cines"] == 200


def test_nothing_is_refitted():
    requested, sds = population()
    table = controllability(requested, requested.mean(axis=0) + 0.5 * (requested - requested.mean(axis=0)) + sds)
    row = table.loc["LVEDV"]
    # Half the slope and one sd of offset: SSE / SST = 0.25 + 1 / var (in sd), though the correlation is perfect.
    variance = np.var(requested[:, 0] / sds[0])
    assert row["r2"] == pytest.approx(1 - (0.25 + 1 / variance), rel=1e-6)
    assert (row["pearson_r"], row["slope"], row["bias"]) == pytest.approx((1.0, 0.5, sds[0]))


def test_interval_holds_the_figure_and_matches_normal_theory(case):
    _, _, table = case
    rows = table.loc[list(NAMES)]
    assert ((rows["r2_low"] < rows["r2"]) & (rows["r2"] < rows["r2_high"])).all()
    # var(R2) is about 4 R2 (1 - R2)^2 / n for a linear relation: half width 1.96 x 0.0109 at R2 = 0.91, n = 200.
    assert (rows["r2_high"] - rows["r2_low"]).mean() == pytest.approx(2 * 1.96 * 0.0117, rel=0.25)


def test_shuffled_conditions_score_about_minus_one(case):
    requested, _, _ = case
    table = controllability(requested, requested, num_resamples=200)
    np.testing.assert_allclose(table["r2"], 1.0)
    np.testing.assert_allclose(table["shuffled_r2"], -1.0, atol=0.1)


def test_septal_wall_is_the_mean_of_its_segments(case):
    requested, measured, table = case
    columns = [phenotype_index(name) for name in ("WT_AHA_3", "WT_AHA_9", "WT_AHA_14")]
    x, y = requested[:, columns].mean(1), measured[:, columns].mean(1)
    assert table.loc["septal_wall", "r2"] == pytest.approx(1 - ((y - x) ** 2).sum() / ((x - x.mean()) ** 2).sum())
    assert table.loc["septal_wall", "unit"] == "mm"


def test_measurable_ones_come_first_as_the_schema_says(case):
    _, _, table = case
    assert {n for n in NAMES if table.loc[n, "measurable"]} == {p.short_name for p in PHENOTYPES if p.measurable}
    assert table["measurable"].is_monotonic_decreasing


def test_unmeasured_cines_are_counted_not_hidden(case):
    requested, measured, _ = case
    measured = measured.copy()
    measured[:50, phenotype_index("LVEDV")] = np.nan
    measured[:, phenotype_index("AAo_distensibility")] = np.nan
    table = controllability(requested, measured, num_resamples=50)
    assert tuple(table.loc["LVEDV", ["num_cines", "num_unmeasured"]]) == (150, 50)
    assert tuple(table.loc["AAo_distensibility", ["num_cines", "num_unmeasured"]]) == (0, 200)
    assert np.isnan(table.loc["AAo_distensibility", "r2"])


def test_few_cines_have_bias_and_rmse_but_no_r2():
    requested, sds = population(20)
    measured = requested + 0.1 * sds
    measured[0, phenotype_index("LVEF")] = np.nan
    requested[:, phenotype_index("RVEF")] = 60.0
    table = controllability(requested, measured, num_resamples=20)
    assert np.isfinite(table.loc["LVEDV", ["r2", "r2_low", "r2_high", "slope"]].astype(float)).all()
    assert table.loc["LVEDV", "r2_needs"] == ""
    assert table.loc["LVEF", "r2_needs"] == "20 cines"
    assert table.loc["RVEF", "r2_needs"] == "varied requests"
    for name in ("LVEF", "RVEF"):
        row = table.loc[name]
        assert np.isnan(row[["r2", "r2_low", "r2_high", "pearson_r", "slope", "shuffled_r2"]].astype(float)).all()
        error = measured[:, phenotype_index(name)] - requested[:, phenotype_index(name)]
        assert row["bias"] == pytest.approx(np.nanmean(error))
        assert row["rmse"] == pytest.approx(np.nanmean(error**2) ** 0.5)
    one = controllability(requested[:1], measured[:1]).loc["LVEDV"]
    assert (one["bias"], one["rmse"]) == pytest.approx((0.1 * sds[0], 0.1 * sds[0]))


def test_same_seed_same_table_and_json(case):
    requested, measured, table = case
    again = controllability(requested, measured, num_resamples=200)
    assert again.equals(table)
    read = {row["phenotype"]: row for row in json.loads(json.dumps(to_plain(table)))}
    assert read["LVEF"]["r2"] == table.loc["LVEF", "r2"]


def test_bad_requests_are_named(case):
    requested, measured, _ = case
    with pytest.raises(ValueError, match="200 requested rows but 199"):
        controllability(requested, measured[1:])
