"""What all tests share: a hub on loopback in place of the public one, set before any library reads its address."""

import os
import tempfile
from pathlib import Path

import pytest

from hub_server import HubServer

_SCRATCH = tempfile.TemporaryDirectory(prefix="cpgg-hub-")
_HUB = HubServer(Path(_SCRATCH.name)).__enter__()
os.environ |= {
    "HF_ENDPOINT": _HUB.url,
    "HF_TOKEN": "hf_test",
    "HF_HUB_DISABLE_XET": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
}


@pytest.fixture(scope="session")
def hub() -> HubServer:
    """The hub on loopback; `hub.httpd.log` holds the requests it got."""
    return _HUB
