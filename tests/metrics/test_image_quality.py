import numpy as np
import pytest

from cpgg_hf.metrics import psnr, ssim


def test_psnr_of_a_known_error():
    references = np.full((3, 4, 16, 16), 0.5)
    cines = references + np.array([0.1, 0.01, 0.0])[:, None, None, None]
    np.testing.assert_allclose(psnr(cines, references)[:2], [20.0, 40.0], rtol=1e-5)
    assert psnr(cines, references)[2] == np.inf


def test_ssim_agrees_with_torchmetrics(hearts):
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    rng = np.random.default_rng(0)
    references = hearts[:2, :4]
    cines = (references + rng.normal(0, 0.05, references.shape)).clip(0, 1).astype(np.float32)
    predictions, targets = (torch.from_numpy(a.reshape(8, 1, 96, 96)).double() for a in (cines, references))
    _, full = structural_similarity_index_measure(predictions, targets, data_range=1.0, return_full_image=True)
    # torchmetrics mirrors the borders; only windows that lie in the frame count here.
    expected = full[..., 5:-5, 5:-5].reshape(2, -1).mean(dim=1)
    np.testing.assert_allclose(ssim(cines, references), expected, atol=1e-6)


def test_ssim_of_identical_cines_is_one_and_of_an_inverted_one_negative(hearts):
    cine = hearts[:1, :3]
    assert ssim(cine, cine)[0] == pytest.approx(1.0)
    assert ssim(1 - cine, cine)[0] < 0.5


def test_unlike_pairs_are_refused(hearts):
    with pytest.raises(ValueError, match=r"cine 0 has shape \(25, 96, 96\)"):
        psnr([hearts[0][:25]], [hearts[0]])
    with pytest.raises(ValueError, match="shorter"):
        psnr(hearts[:2], hearts[:1])
    with pytest.raises(ValueError, match="11x11"):
        ssim(np.zeros((1, 2, 8, 8)), np.zeros((1, 2, 8, 8)))
