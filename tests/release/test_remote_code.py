"""Checkpoints that load with `trust_remote_code=True` where the package is not installed."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

from cpgg_hf import CPGGMARModel, CPGGPipeline
from cpgg_hf.errors import PublishingError
from cpgg_hf.hub.push import push_folder
from cpgg_hf.release.remote_checkpoint import write_remote_checkpoint
from cpgg_hf.release.remote_code import FILES, changed_remote_code, export_remote_code, flatten

PIPELINES = Path(__file__).parents[2] / "pipelines"

# `-S` leaves out site-packages and with them the installed package, which comes by a .pth file or lies there.
WITHOUT_THE_PACKAGE = """
import sys
sys.path.append(sys.argv[1])
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "cpgg_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import numpy as np
import torch
torch.set_num_threads(1)
"""


def _run(script, tmp_path, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["HF_HOME"] = str(tmp_path / "home")
    site_packages = sysconfig.get_paths()["purelib"]
    command = [sys.executable, "-S", "-c", WITHOUT_THE_PACKAGE + script, site_packages, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_what_is_committed_is_what_the_sources_give():
    assert changed_remote_code(PIPELINES) == [], "run `cpgg export-remote-code`"


def test_a_changed_or_missing_file_is_noticed(tmp_path):
    export_remote_code(tmp_path)
    assert changed_remote_code(tmp_path) == []
    (tmp_path / FILES[0].path).write_text("")
    (tmp_path / FILES[1].path).unlink()
    assert changed_remote_code(tmp_path) == [FILES[0].path, FILES[1].path]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.class_name)
def test_each_file_stands_alone(file):
    tree = ast.parse((PIPELINES / file.path).read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset == 0  # fitting imports sklearn
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    allowed = {"torch", "numpy", "pandas", "PIL", "diffusers", "transformers", "huggingface_hub", "safetensors"}
    assert imported <= allowed | set(sys.stdlib_module_names)
    assert file.class_name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


@pytest.fixture(scope="module")
def without_the_package(hub, checkpoint, tmp_path_factory):
    """What one process without the package printed and wrote: a cine of the pipeline, a loss of the transformer."""
    tmp_path = tmp_path_factory.mktemp("without")
    write_remote_checkpoint(checkpoint, tmp_path / "remote")
    push_folder(checkpoint, "user/both")
    push_folder(tmp_path / "remote", "user/both", revision="remote-code")
    write_remote_checkpoint(checkpoint / "mar", tmp_path / "mar")
    push_folder(tmp_path / "mar", "user/remote-mar")
    script = """
from diffusers import DiffusionPipeline
from transformers import AutoModel
pipe = DiffusionPipeline.from_pretrained("user/both", revision="remote-code", trust_remote_code=True)
out = pipe({"LVEF": 30.0}, num_samples=2, generator=torch.Generator().manual_seed(0))
model = AutoModel.from_pretrained("user/remote-mar", trust_remote_code=True).eval()
latents = torch.linspace(-1, 1, 4 * 10 * 6 * 6).reshape(1, 4, 10, 6, 6)
torch.manual_seed(0)
loss = model(latents=latents, phenotypes=torch.full((1, 82), torch.nan)).loss.detach()
np.savez(sys.argv[2], cines=out.cines, phenotypes=out.phenotypes.to_numpy(), loss=loss)
assert not any(name.split(".")[0] == "cpgg_hf" for name in sys.modules)
print(type(pipe).__module__, type(model).__module__, pipe.data_policy)
"""
    printed = _run(script, tmp_path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        return printed.split(), dict(found), tmp_path / "cache"


def test_a_pipeline_from_the_hub_generates_the_same_bytes_without_the_package(without_the_package):
    (module, _, policy), found, cache = without_the_package
    assert module.startswith("diffusers_modules.")
    assert policy == "phantom"
    pipe = CPGGPipeline.from_pretrained("user/both", cache_dir=cache)
    expected = pipe({"LVEF": 30.0}, num_samples=2, generator=torch.Generator().manual_seed(0))
    assert found["cines"].tobytes() == expected.cines.tobytes()
    assert found["phenotypes"].tobytes() == expected.phenotypes.to_numpy().tobytes()


def test_a_transformer_loads_by_auto_model_without_the_package(without_the_package, checkpoint):
    (_, module, _), found, _ = without_the_package
    assert module.startswith("transformers_modules.")
    model = CPGGMARModel.from_pretrained(checkpoint / "mar").eval()
    latents = torch.linspace(-1, 1, 4 * 10 * 6 * 6).reshape(1, 4, 10, 6, 6)
    torch.manual_seed(0)
    loss = model(latents=latents, phenotypes=torch.full((1, 82), torch.nan)).loss.detach()
    assert float(found["loss"]) == pytest.approx(float(loss), rel=1e-6)


def test_what_has_no_code_of_its_own_is_refused(checkpoint, tmp_path):
    with pytest.raises(PublishingError, match="neither a pipeline nor a MAR"):
        write_remote_checkpoint(checkpoint / "vae", tmp_path / "out")


def test_a_scheduler_of_diffusers_stays_what_it_is(checkpoint, tmp_path):
    index = json.loads((checkpoint / "model_index.json").read_text())
    write_remote_checkpoint(checkpoint, tmp_path / "own")
    assert json.loads((tmp_path / "own" / "model_index.json").read_text())["scheduler"] == [
        "scheduling_cpgg_ddpm",
        "CPGGDDPMScheduler",
    ]
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", "DDIMScheduler"]}))
    for component in ("mar", "vae", "phenotype_vae"):
        (other / component).mkdir()
        (other / component / "config.json").write_text("{}")
    write_remote_checkpoint(other, tmp_path / "theirs")
    written = json.loads((tmp_path / "theirs" / "model_index.json").read_text())
    assert written["scheduler"] == ["diffusers", "DDIMScheduler"]
    assert not (tmp_path / "theirs" / "scheduler").exists()


def test_the_table_of_phenotypes_is_inside():
    text = flatten("cpgg_hf.phenotypes.schema", "PHENOTYPES")
    namespace = {"__name__": "flattened"}
    exec(compile(text, "flattened", "exec"), namespace)
    from cpgg_hf.phenotypes import PHENOTYPES

    assert [vars(one) for one in namespace["PHENOTYPES"]] == [vars(one) for one in PHENOTYPES]


def _flattened(monkeypatch, tmp_path, modules, without=()):
    """Names of the module that a made-up package `cpgg_hf.made_up` becomes; `modules` are its sources by name."""
    import cpgg_hf

    folder = tmp_path / "made_up"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setattr(cpgg_hf, "__path__", [*cpgg_hf.__path__, str(tmp_path)])
    for name in [name for name in sys.modules if name.startswith("cpgg_hf.made_up")]:
        del sys.modules[name]  # another test's
    flatten.cache_clear()
    text = flatten("cpgg_hf.made_up.top", "Top", without)
    assert "import cpgg_hf" not in text
    assert "from cpgg_hf" not in text
    namespace = {"__name__": "flattened"}
    exec(compile(text, "flattened", "exec"), namespace)
    return namespace, text


OTHER = """
import math as _numbers
from typing import Any as Number
_SIZE = 3
def _helper(later) -> Number:
    \"\"\"
    Internal.
    \"\"\"
    return _numbers.floor(2.5) + _SIZE
def total():
    return _helper(None)
"""
TOP = """
import json
from cpgg_hf.made_up.other import total
from cpgg_hf.hub.mixin import HubPolicyMixin
# a comment
length = 10
class Top(HubPolicyMixin, object):
    \"\"\"Public.\"\"\"
    def value(self):
        \"\"\"Public too.\"\"\"
        return total(), length, json.loads("4")
    def _inner(self):
        \"\"\"Internal.\"\"\"
    def fit(self):
        return undefined_elsewhere
"""


def test_a_class_keeps_what_it_needs_and_loses_the_rest(monkeypatch, tmp_path):
    namespace, text = _flattened(monkeypatch, tmp_path, {"other": OTHER, "top": TOP}, without=("fit",))
    assert namespace["Top"]().value() == (5, 10, 4)
    assert not hasattr(namespace["Top"], "fit")
    assert namespace["Top"].__doc__ == "Public."
    assert namespace["Top"].value.__doc__ == "Public too."
    assert "Internal." not in text
    assert namespace["Top"].__mro__ == (namespace["Top"], object)
    assert "# a comment" in text


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (TOP.replace("length", "_SIZE"), r"both define _SIZE; rename one\.$"),
        (TOP.replace("import total", "import total as length"), r"imports total as length; keep its name\.$"),
    ],
)
def test_names_that_would_have_to_change_are_refused(monkeypatch, tmp_path, top, message):
    with pytest.raises(PublishingError, match=message):
        _flattened(monkeypatch, tmp_path, {"other": OTHER, "top": top})


def test_an_import_of_the_package_inside_a_function_is_refused(monkeypatch, tmp_path):
    source = "def Top():\n    from cpgg_hf.cine import Cine\n    return Cine\n"
    with pytest.raises(PublishingError, match=r"imports from cpgg_hf in line 2; import at the top\.$"):
        _flattened(monkeypatch, tmp_path, {"top": source})


def test_all_files_together_stay_small():
    assert sum(len((PIPELINES / file.path).read_text().splitlines()) for file in FILES) < 4000


def test_each_component_of_a_remote_checkpoint_names_its_class(checkpoint, tmp_path):
    write_remote_checkpoint(checkpoint, tmp_path)
    for component, class_name in (("mar", "CPGGMARModel"), ("vae", "AutoencoderKLCPGG")):
        auto_map = json.loads((tmp_path / component / "config.json").read_text())["auto_map"]
        module, name = auto_map["AutoModel"].split(".")
        assert name == class_name
        assert f"class {class_name}" in (tmp_path / component / f"{module}.py").read_text()
