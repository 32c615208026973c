"""What all tests share: a hub on loopback in place of the public one, set before any library reads it; one thread."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hub_server import HubServer

_SCRATCH = tempfile.TemporaryDirectory(prefix="cpgg-hub-")
_HUB = HubServer(Path(_SCRATCH.name)).__enter__()
os.environ |= {
    "HF_ENDPOINT": _HUB.url,
    "HF_TOKEN": "hf_test",
    "HF_HUB_DISABLE_XET": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
}
os.environ.pop("CPGG_MODEL", None)  # tests name their checkpoint
torch.set_num_threads(1)  # sums, and so bytes, depend on it, and the processes that tests start have one


@pytest.fixture(scope="session")
def hub() -> HubServer:
    """The hub on loopback; `hub.httpd.log` holds the requests it got."""
    return _HUB
