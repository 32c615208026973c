import torch

from cpgg_hf.segmentation.augmentation import _random_grid, augment


def discs(count=16):
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    disc = (((x - 40) ** 2 + (y - 52) ** 2) < 20**2).float()
    return disc.expand(count, 3, -1, -1).clone(), disc.expand(count, 1, -1, -1).clone()


def test_coverage_moves_with_the_frames():
    torch.manual_seed(0)
    frames, coverage = augment(*discs())
    middle = frames.mean(dim=1)
    for image, covered in zip(middle, coverage[:, 0], strict=True):
        overlap = ((image > image.mean()) == (covered > 0.5)).float().mean()
        assert overlap > 0.97
    moved = (coverage - discs()[1]).abs().flatten(1).max(dim=1).values > 0.5
    assert 0 < moved.sum() < len(moved)


def test_values_stay_in_range_and_the_given_batch_is_left_alone():
    torch.manual_seed(1)
    frames, coverage = discs()
    kept = frames.clone(), coverage.clone()
    new_frames, new_coverage = augment(frames, coverage)
    for values in (new_frames, new_coverage):
        assert values.min() >= 0
        assert values.max() <= 1
    assert torch.equal(frames, kept[0])
    assert torch.equal(coverage, kept[1])


def test_the_same_random_state_gives_the_same_batch():
    torch.manual_seed(2)
    first = augment(*discs())
    torch.manual_seed(2)
    second = augment(*discs())
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], augment(*discs())[0])


def test_hearts_turn_by_up_to_12_degrees_and_shift_by_up_to_6_pixels():
    torch.manual_seed(0)
    grid = _random_grid(torch.zeros(400, 1, 96, 96))
    right = grid[:, 0, -1] - grid[:, 0, 0]
    angle = torch.rad2deg(torch.atan2(right[:, 1], right[:, 0])).abs().max()
    shift = grid.mean(dim=(1, 2)).abs().max() * 48
    assert 11 < angle <= 12
    assert 5.5 < shift <= 6.001
