"""Phenotypes of a run: conditions are met, given values kept, and a heart's draws are its own."""

import numpy as np
import pytest
import torch

from cpgg_hf import phantom
from cpgg_hf.errors import PhenotypeError, RequestError
from cpgg_hf.generation import GenerationRequest, parse_condition, sample_seed
from cpgg_hf.generation import request as request_module
from cpgg_hf.phenotypes import phenotype_index

LVEF, LVEDV = phenotype_index("LVEF"), phenotype_index("LVEDV")


@pytest.mark.parametrize(
    ("text", "met"),
    [("LVEF < 40", [1, 0, 0]), ("LVEF<=40", [1, 1, 0]), ("24103 > 40", [0, 0, 1]), ("LVEF >= 4e1", [0, 1, 1])],
)
def test_a_condition_compares_as_it_is_written(text, met):
    rows = np.zeros((3, 82))
    rows[:, LVEF] = (39, 40, 41)
    assert parse_condition(text).holds(rows).tolist() == [bool(value) for value in met]


@pytest.mark.parametrize("text", ["LVEF", "LVEF = 40", "LVEF < 40 %", "< 40", "20 < LVEF < 40", "LVEF < forty"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(RequestError, match=r"invalid condition .*; use NAME < NUMBER"):
        parse_condition(text)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(PhenotypeError, match="did you mean 'LVEF'"):
        parse_condition("LVFE < 40")


def test_conditions_are_met_and_a_heart_is_the_same_in_any_batch(pipe):
    hearts = GenerationRequest(None, 12, [parse_condition("LVEF < 55"), parse_condition("LVEDV > 140")])
    together = hearts.draw(pipe, 3, "train", range(12))
    assert (together[:, LVEF] < 55).all()
    assert (together[:, LVEDV] > 140).all()
    for indices in ([7], [11, 2]):
        assert np.array_equal(hearts.draw(pipe, 3, "train", indices), together[indices])
    assert len(np.unique(together[:, LVEDV])) == 12


def test_rejection_keeps_the_first_draw_that_meets_the_condition(pipe):
    """Against draws one after another from the heart's own generator."""
    condition = parse_condition("LVEDV > 170")
    hearts = GenerationRequest(None, 6, [condition])
    for index, kept in enumerate(hearts.draw(pipe, 0, "train", range(6))):
        generator = torch.Generator().manual_seed(sample_seed(0, "train", index))
        while True:
            drawn = pipe.sample_phenotypes(generator=[generator]).to_numpy()
            if condition.holds(drawn)[0]:
                break
        assert np.array_equal(kept, drawn[0])


def test_without_conditions_a_heart_is_what_the_pipeline_draws_from_its_seed(pipe):
    hearts = GenerationRequest({"LVEF": 35.0}, 2)
    generators = [torch.Generator().manual_seed(sample_seed(9, "test", index)) for index in range(2)]
    expected = pipe.sample_phenotypes({"LVEF": 35.0}, 2, generators).to_numpy()
    assert np.array_equal(hearts.draw(pipe, 9, "test", range(2)), expected)
    assert (expected[:, LVEF] == 35).all()


def test_given_values_are_conditioned_on_before_conditions_reject(pipe):
    hearts = GenerationRequest({"LVEF": 35.0}, 4, [parse_condition("LVEDV > 160")])
    drawn = hearts.draw(pipe, 0, "train", range(4))
    assert (drawn[:, LVEF] == 35).all()
    assert (drawn[:, LVEDV] > 160).all()


def test_a_tables_rows_are_repeated_in_order_and_whole_rows_stay(pipe):
    table = phantom.sample_phenotypes(2, 5)
    drawn = GenerationRequest(table, 2).draw(pipe, 0, "train", range(4))
    assert np.allclose(drawn, table[[0, 0, 1, 1]], rtol=1e-12)


def test_unsatisfiable_conditions_are_refused(pipe, monkeypatch):
    hopeless = GenerationRequest(None, 3, [parse_condition("LVEF > 99"), parse_condition("LVEDV > 400")])
    with pytest.raises(RequestError, match="none of 501 drawn hearts meets LVEF > 99 and LVEDV > 400; loosen"):
        hopeless.check_acceptance(pipe, 0, "train")
    monkeypatch.setattr(request_module, "MAXIMUM_DRAWS", 40)
    with pytest.raises(RequestError, match="none of 49 draws for cine 2 meets"):
        hopeless.draw(pipe, 0, "train", [2])


def test_a_given_value_that_breaks_a_condition_is_named():
    with pytest.raises(RequestError, match="row 1 fixes LVEF at 60, which breaks the condition LVEF < 40"):
        GenerationRequest({"LVEF": [30.0, 60.0]}, 1, [parse_condition("LVEF < 40")])


def test_no_two_cines_share_a_seed():
    seeds = {
        sample_seed(seed, split, index, attempt)
        for seed in (0, 1)
        for split in ("train", "test")
        for index in range(200)
        for attempt in (1, 2, 3)
    }
    assert len(seeds) == 2400
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("num_samples", [0, -1, 1.5, 2.0, "2"])
def test_a_number_of_samples_is_a_whole_number(num_samples):
    with pytest.raises(RequestError, match=f"num_samples is {num_samples}; expected a whole number of at least 1"):
        GenerationRequest({"LVEF": 30.0}, num_samples)
