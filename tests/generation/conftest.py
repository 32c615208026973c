import hashlib
from pathlib import Path

import pytest
from tiny_checkpoint import save_tiny_checkpoint, tiny_pipeline


@pytest.fixture(scope="session")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def digests():
    """SHA-256 of all files of a folder, hidden ones included, except locks."""

    def of(folder: Path) -> dict[str, str]:
        paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    return of
