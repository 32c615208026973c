import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf.files.policy_record import record_policy


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """An untrained pipeline folder with a segmenter beside it, all phantom."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def network(tmp_path):
    """Writes a folder that looks like a saved network."""

    def write(name="network", data_policy="phantom", size=10):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"data_policy": data_policy}))
        # Random: a hub that knows some content from another repository does not ask for it again.
        save_file({"weight": torch.from_numpy(np.random.default_rng().random(size))}, folder / "model.safetensors")
        record_policy(folder, data_policy, folder.iterdir())
        return folder

    return write


@pytest.fixture
def no_waiting(monkeypatch):
    """Neither our retries nor the client's own wait; the seconds that ours asked for are returned."""
    asked = []
    monkeypatch.setattr("cpgg_hf.hub.push.time.sleep", asked.append)
    return asked
