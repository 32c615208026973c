"""What a sample draws depends on the run's seed, the step, its place and the name: on nothing else."""

import pytest
import torch

from cpgg_hf.training.randomness import StepRandomness


def test_a_samples_numbers_do_not_depend_on_the_cut():
    whole = StepRandomness(3, 7, 0, 6, "cpu")
    parts = [StepRandomness(3, 7, 0, 4, "cpu"), StepRandomness(3, 7, 4, 2, "cpu")]
    parts[1].uniform("something else")
    torch.testing.assert_close(torch.cat([part.normal("noise", 2, 3) for part in parts]), whole.normal("noise", 2, 3))
    drawn = torch.cat([part.integers("timesteps", 1000, 5) for part in parts])
    torch.testing.assert_close(drawn, whole.integers("timesteps", 1000, 5))
    assert whole.of_step("mask ratio") == parts[0].of_step("mask ratio") == parts[1].of_step("mask ratio")


def test_other_seeds_steps_samples_and_names_draw_other_numbers():
    base = StepRandomness(3, 7, 0, 2, "cpu").uniform("a")
    others = [StepRandomness(4, 7, 0, 2, "cpu").uniform("a"), StepRandomness(3, 8, 0, 2, "cpu").uniform("a")]
    others += [StepRandomness(3, 7, 0, 2, "cpu").uniform("b"), StepRandomness(3, 7, 2, 2, "cpu").uniform("a")]
    assert len({float(value) for draw in (base, *others) for value in draw}) == 10
    assert StepRandomness(3, 7, 0, 2, "cpu").of_step("a") != StepRandomness(3, 8, 0, 2, "cpu").of_step("a")


def test_numbers_follow_their_distributions_across_samples():
    randomness = StepRandomness(0, 0, 0, 4000, "cpu")
    normal, uniform = randomness.normal("normal", 4), randomness.uniform("uniform", 4)
    assert normal.mean().item() == pytest.approx(0.0, abs=0.03)
    assert normal.std().item() == pytest.approx(1.0, abs=0.03)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert abs(torch.corrcoef(uniform.T)[0, 1].item()) < 0.06
    steps = torch.tensor([StepRandomness(0, step, 0, 1, "cpu").of_step("a") for step in range(4000)])
    assert steps.mean().item() == pytest.approx(0.5, abs=0.02)
    assert set(randomness.integers("integers", 3).tolist()) == {0, 1, 2}
