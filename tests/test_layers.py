"""Imports in the package go down the table in CONTRIBUTING.md, never up: read from the sources, lazy imports too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "cpgg_hf"
# From the top; what stands on one line may import each other.
LAYERS = (
    {"cli"},
    {"generation"},
    {"preparation"},
    {"training"},
    {"release"},
    {"metrics"},
    {"measure"},
    {"segmentation"},
    {"pipeline_cpgg"},
    {"models"},
    {"hub"},
    {"exports", "dataset", "scans"},
    {"shards"},
    {"files"},
    {"phantom"},
    {"phenotypes"},
    {"cine", "plane", "grid", "data_policy", "optional", "errors", "version"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_modules(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "cpgg_hf":
            yield from (f"cpgg_hf.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cpgg_hf."):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("cpgg_hf."))


@pytest.mark.parametrize("name", sorted(path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")))
def test_a_package_imports_only_from_below(name):
    if name == "py":  # py.typed
        return
    assert name in RANK, f"{name} has no place in CONTRIBUTING's table"
    place = PACKAGE / name
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in files
        for module in imported_modules(path)
        if (target := module.split(".")[1]) in RANK and target != name and RANK[target] < RANK[name]
    ]
    assert upwards == []
