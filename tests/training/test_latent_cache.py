"""The cache of latents: every cine's moments are in it, or the run stops."""

import shutil

import pytest
import torch
from accelerate import Accelerator

from cpgg_hf import AutoencoderKLCPGG
from cpgg_hf.cine import to_network
from cpgg_hf.errors import TrainingError
from cpgg_hf.training import latent_cache
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.latent_cache import encode_split

from .conftest import save_vae, write_data


@pytest.fixture
def network(vae):
    return AutoencoderKLCPGG.from_pretrained(vae)


@pytest.fixture
def cines(data):
    return CineBatches(str(data), "train")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    """24 cines in three shards."""
    monkeypatch.setattr(latent_cache, "_CINES_PER_SHARD", 10)
    monkeypatch.setattr(latent_cache, "_CINES_PER_BATCH", 5)


class Rank:
    """One process of several, as the cache sees an `Accelerator`; `wait` is what happens at its barrier."""

    device, mixed_precision, is_main_process = torch.device("cpu"), "no", False

    def __init__(self, process_index, num_processes, wait=lambda: None):
        self.process_index, self.num_processes, self.wait_for_everyone = process_index, num_processes, wait
        self.autocast = Accelerator().autocast


def everything(moments):
    return moments[range(len(moments))]


def test_it_holds_the_posteriors_moments(network, cines, tmp_path):
    moments, _ = encode_split(Accelerator(), network, cines, "train", tmp_path)
    with torch.no_grad():
        posterior = network.encode(to_network(cines[[7, 20]]["cine"])).latent_dist
    batch = moments[[7, 20]]
    assert batch["mean"].dtype == torch.float16
    torch.testing.assert_close(batch["mean"].float(), posterior.mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(batch["logvar"].float(), posterior.logvar, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(batch["phenotypes"], cines[[7, 20]]["phenotypes"])
    assert len(moments) == 24
    assert moments.latent_shape == posterior.mean.shape[1:]


def test_a_process_that_starts_late_still_encodes_its_share(network, cines, tmp_path):
    """What belongs to whom does not depend on what is there already: nothing is left at zero."""
    expected, _ = encode_split(Accelerator(), network, cines, "train", tmp_path / "one")

    def late_rank():
        encode_split(Rank(1, 2), network, cines, "train", tmp_path / "two")

    moments, _ = encode_split(Rank(0, 2, late_rank), network, cines, "train", tmp_path / "two")
    for name, values in everything(expected).items():
        assert torch.equal(everything(moments)[name], values)


def test_a_missing_share_stops_the_run(network, cines, tmp_path):
    with pytest.raises(TrainingError, match="lacks 1 of 3 shards; run the same command again"):
        encode_split(Rank(0, 2), network, cines, "train", tmp_path)


def test_it_is_reused_repaired_and_made_anew_for_another_vae_or_other_cines(network, cines, tmp_path):
    first, fingerprint = encode_split(Accelerator(), network, cines, "train", tmp_path / "cache")
    expected = everything(first)
    (folder,) = (tmp_path / "cache").iterdir()
    intact = (folder / "00000000.npy").stat().st_mtime_ns
    (folder / "00000010.npy").write_bytes((folder / "00000010.npy").read_bytes()[:-2] + b"??")
    again, _ = encode_split(Accelerator(), network, cines, "train", tmp_path / "cache")
    assert all(torch.equal(values, expected[name]) for name, values in everything(again).items())
    assert (folder / "00000000.npy").stat().st_mtime_ns == intact

    # The statistics act on what is read from the cache and do not rebuild it.
    network.register_to_config(latents_mean=[0.0, 0.0])
    assert encode_split(Accelerator(), network, cines, "train", tmp_path / "cache")[1] == fingerprint
    other = AutoencoderKLCPGG.from_pretrained(save_vae(tmp_path / "other", seed=1))
    rebuilt, _ = encode_split(Accelerator(), other, cines, "train", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert not torch.equal(everything(rebuilt)["mean"], expected["mean"])


def test_the_fingerprint_of_a_data_set_covers_every_cine(tmp_path):
    """One changed pixel among 300 cines is another data set."""
    fingerprints = set()
    for changed in (None, 0, 137, 299):
        folder = write_data(tmp_path / str(changed), num_train=300, num_validation=0, change=changed)
        fingerprints.add(CineBatches(str(folder), "train").fingerprint())
        shutil.rmtree(folder)
    assert len(fingerprints) == 4
