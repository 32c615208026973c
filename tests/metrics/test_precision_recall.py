import numpy as np
import pytest

from cpgg_hf.metrics import FeatureSet, precision_recall


def feature_set(values):
    return FeatureSet(np.asarray(values, dtype=np.float64), "test", 50, (96, 96))


def test_by_hand_on_a_line():
    # k = 1: balls of radius 1 around 0, 1, 2 and of radius 8 around 10; generated balls have radius 0.5 and 9.5.
    reference, generated = feature_set([[0], [1], [2], [10]]), feature_set([[0.5], [0.0], [-20.0], [-10.5]])
    result = precision_recall(reference, generated, num_neighbours=1)
    assert result.precision == pytest.approx(2 / 4)  # -20 and -10.5 lie outside
    # Generated: 0.5 reaches 0..1, 0 reaches -0.5..0.5, -20 and -10.5 reach 9.5: reference 0 and 1 are covered.
    assert result.recall == pytest.approx(2 / 4)


def test_one_mode_of_ten_is_precise_but_covers_a_tenth():
    rng = np.random.default_rng(0)
    centres = 100.0 * np.eye(10)
    reference = feature_set(np.concatenate([centre + rng.normal(size=(50, 10)) for centre in centres]))
    generated = feature_set(centres[0] + 0.5 * rng.normal(size=(500, 10)))
    result = precision_recall(reference, generated)
    assert result.precision > 0.98
    assert result.recall <= 0.1


def test_same_population_scores_high_and_another_scores_zero():
    rng = np.random.default_rng(1)
    reference, same = feature_set(rng.normal(size=(400, 4))), feature_set(rng.normal(size=(400, 4)))
    alike = precision_recall(reference, same)
    assert alike.precision > 0.85
    assert alike.recall > 0.85
    apart = precision_recall(reference, feature_set(same.values + 100))
    assert (apart.precision, apart.recall) == (0.0, 0.0)


def test_a_copy_of_the_reference_set_is_perfect():
    reference = feature_set(np.random.default_rng(2).normal(size=(30, 5)))
    result = precision_recall(reference, reference, num_neighbours=3)
    assert (result.precision, result.recall, result.num_neighbours) == (1.0, 1.0, 3)


@pytest.mark.parametrize("num_neighbours", [0, 10])
def test_impossible_numbers_of_neighbours_are_refused(num_neighbours):
    ten = feature_set(np.arange(10)[:, None])
    with pytest.raises(ValueError, match="num_neighbours"):
        precision_recall(ten, ten, num_neighbours)
