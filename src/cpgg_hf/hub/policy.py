"""Who may see an artefact: `data_policy`, which travels with data, models and cards and is inherited.

`phantom`: no patient has a part in it. `public`: from public data, under its licence. `restricted`: from patients or
study participants, must not leave the environment that it was approved for. What descends from several sources takes
the strictest policy of them; what says nothing is restricted.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpgg_hf.data_policy import UNKNOWN_POLICY, strictest

ADAPTER_POLICY_FILE = "data_policy.json"  # beside PEFT's own file, which has no room for it

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_IMAGES = (".nii", ".gz", ".dcm", ".npy", ".npz", ".zip", ".h5")
_RECORDS = ("dataset.json", "generation.json")


def policy_of(source: str | os.PathLike[str], repo_type: str = "model") -> str:
    """The policy of a folder, or of a hub repository, which is told by its `config.json` or `dataset.json`.

    Args:
        source: a folder, or the name of a repository.
        repo_type: "model" or "dataset".
    """
    if Path(source).is_dir():
        return strictest(policy for _, policy in stated_policies(source))
    if Path(source).exists() or len(Path(source).parts) != 2:
        return UNKNOWN_POLICY  # a file, such as a CSV of phenotypes, says nothing
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = "dataset.json" if repo_type == "dataset" else "config.json"
    try:
        return strictest([_stated_in(Path(hf_hub_download(str(source), name, repo_type=repo_type)))])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        return UNKNOWN_POLICY


def policy_of_adapter(source: str | os.PathLike[str] | None, **hub: Any) -> str:
    """The policy of a PEFT adapter in a folder or hub repository, told by its `data_policy.json`; None: not known.

    Args:
        source: a folder, or the name of a repository.
        hub: of transformers' `cached_file`, such as `revision`, `token`, `subfolder`, `cache_dir`.
    """
    from transformers.utils import cached_file

    try:
        path = None if source is None else cached_file(source, ADAPTER_POLICY_FILE, **hub)
    except OSError:
        return UNKNOWN_POLICY  # there is none, or it cannot be reached
    return UNKNOWN_POLICY if path is None else strictest([_stated_in(Path(path))])


def stated_policies(folder: str | os.PathLike[str]) -> list[tuple[str, str | None]]:
    """What each part of a folder says: (its place, its policy); None where it says nothing.

    Parts are networks (folders with weights), data sets (each with what its rows say), folders of images and cards; a
    folder without any of them is one part that says nothing.
    """
    folder = Path(folder)
    found = [(str(path.relative_to(folder)), policy) for path, policy in _stated(folder)]
    if {Path(place).name for place, _ in found} <= {"README.md"}:  # a card alone vouches for nothing
        found.append((".", None))
    return found


def _stated(folder: Path) -> Iterator[tuple[Path, str | None]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not is_hidden(path.relative_to(folder)))
    for place in sorted({path.parent for path in files if path.suffix in _WEIGHTS}):
        adapter = (place / "adapter_config.json").is_file()
        stating = place / (ADAPTER_POLICY_FILE if adapter else "config.json")
        yield stating, _stated_in(stating)
    recorded = {path.parent for path in files if path.name in _RECORDS}
    for place in sorted({path.parent for path in files if path.suffix in _IMAGES}):
        if recorded.isdisjoint((place, *place.parents)):
            yield place, None
    for path in files:
        if path.name == "generation.json":
            yield path, _stated_in(path)
        elif path.suffix == ".parquet":
            for policy in _policies_of_rows(path):
                yield path, policy
        elif path.name in ("dataset.json", "README.md"):  # rows and networks speak for themselves
            policy = _policy_of_card(path) if path.name == "README.md" else _stated_in(path)
            if policy is not None:
                yield path, policy


def is_hidden(path: Path) -> bool:
    """Whether a file lies under a name that begins with a dot: bookkeeping, which is never published."""
    return any(part.startswith(".") for part in path.parts)


def _stated_in(path: Path) -> str | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("data_policy") if isinstance(content, dict) else None


def _policies_of_rows(path: Path) -> list[str | None]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        if "data_policy" not in pq.read_schema(path).names:
            return [None]
        return pc.unique(pq.read_table(path, columns=["data_policy"])["data_policy"]).to_pylist()
    except (OSError, pa.ArrowException):
        return [None]


def _policy_of_card(path: Path) -> str | None:
    from huggingface_hub import metadata_load

    try:
        return (metadata_load(path) or {}).get("data_policy")
    except ValueError:
        return None
