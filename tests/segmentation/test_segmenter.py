import json

import pytest
import torch

from cpgg_hf.segmentation.segmenter import CineSegmenter


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2, training_record={"steps": 7}).eval()


def test_probabilities_of_seven_labels_at_full_size(tiny):
    probabilities = tiny.segment(torch.rand(6, 32, 32))
    assert probabilities.shape == (6, 7, 32, 32)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(6, 32, 32), atol=1e-5, rtol=0)


def test_saved_as_safetensors_and_loaded_the_same(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "data_policy.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert json.loads((tmp_path / "config.json").read_text())["training_record"] == {"steps": 7}
    again = CineSegmenter.from_pretrained(tmp_path)
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again(frames), tiny(frames))
    assert again.config.block_out_channels == tiny.config.block_out_channels or list(
        again.config.block_out_channels
    ) == list(tiny.config.block_out_channels)


def test_the_cycle_closes(tiny):
    """Starting the film at another frame changes nothing but the order: the neighbours of the first are the last."""
    cine = torch.rand(25, 32, 32)
    rolled = tiny.segment(cine.roll(3, dims=0))
    torch.testing.assert_close(rolled, tiny.segment(cine).roll(3, dims=0), atol=1e-5, rtol=0)


def test_context_is_a_share_of_the_beat(tiny):
    """Half the frames of a beat see the same neighbours as before: two of 50 frames on, one of 25."""
    cine = torch.rand(25, 32, 32)
    doubled = cine.repeat_interleave(2, dim=0)
    torch.testing.assert_close(tiny.segment(doubled)[::2], tiny.segment(cine), atol=1e-5, rtol=0)


def test_context_is_the_earlier_the_same_and_the_later_frame_of_a_periodic_beat(monkeypatch):
    network = CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2).eval()
    given = []
    monkeypatch.setattr(network, "forward", lambda frames: given.append(frames) or torch.zeros(50, 7, 8, 8))
    network.segment(torch.arange(50.0).div(50)[:, None, None].expand(-1, 8, 8))
    frames = (given[0][..., 0, 0] + 1) * 25
    torch.testing.assert_close(frames[10], torch.tensor([8.0, 10.0, 12.0]))
    torch.testing.assert_close(frames[0], torch.tensor([48.0, 0.0, 2.0]))
