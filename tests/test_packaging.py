"""What is installed or downloaded is whole: the wheel works outside the repository, the source archive holds it."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "checkpoints", "docs", "model_cards", "pipelines", "src", "tests", "training_scripts")
FILES = (
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md"),
    *("constraints.txt", "pyproject.toml", "setup.cfg"),
)
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the repository, with its source archive and its wheel in `dist`."""
    copy = tmp_path_factory.mktemp("copy")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=LEFT_OUT)
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    build = "from setuptools import build_meta as build; build.build_sdist('dist'); build.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    return copy


def test_the_source_archive_holds_the_whole_repository(built):
    (archive,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    expected = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not re.search(r"/__pycache__/|\.egg-info/|/\.[^/]*$", str(path))
    }
    assert sorted((expected | set(FILES)) - names) == []


def test_the_wheel_holds_all_package_data_and_works_outside_the_repository(built, tmp_path):
    (wheel,) = (built / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    package = ROOT / "src" / "cpgg_hf"
    data = [*package.rglob("*.*"), *(package / "release" / "model_cards").glob("*")]  # a link, which rglob passes over
    for path in data:
        if path.is_file() and path.suffix != ".pyc":
            assert (tmp_path / "site" / "cpgg_hf" / path.relative_to(package)).is_file(), path
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import cpgg_hf, cpgg_hf.cli.models as models\n"
        f"assert cpgg_hf.__file__.startswith({str(tmp_path)!r})\n"
        "try: models.checkpoint_path(None)\n"
        "except ValueError as error: print(error)\n"
        "from cpgg_hf.cli.main import main; main(['phenotypes'])"
    )
    environment = {"PATH": "", "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    sentence, _, *rows = result.stdout.splitlines()
    assert "CPGG_MODEL" in sentence
    assert "site" not in sentence
    assert len(rows) == 82


def test_pins_leave_room_for_gradio_and_trackio():
    """Gradio 6.31 and trackio 0.43 require pillow below 13."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert pins["pillow"] in Requirement("pillow<13.0,>=8.0").specifier
