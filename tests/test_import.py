"""What `import cpgg_hf` costs, and what it offers: checked in fresh interpreters, as other tests import everything."""

import subprocess
import sys

import pytest
from tiny_checkpoint import tiny_pipeline

HEAVY = ("torch", "diffusers", "transformers", "pandas")


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import cpgg_hf",
        "import cpgg_hf; cpgg_hf.phenotypes.as_array({'LVEF': 30})",
        "from cpgg_hf.cli.main import build_parser; build_parser().format_help()",
    ],
)
def test_no_heavy_library_is_loaded(statement):
    loaded = run_python(f"import sys; {statement}; print(*[name for name in {HEAVY} if name in sys.modules])")
    assert loaded.split() == []


def test_touching_a_class_registers_it_and_every_public_name_exists():
    output = run_python(
        "import cpgg_hf; cpgg_hf.CPGGMARConfig\n"
        "from transformers import AutoConfig; print(type(AutoConfig.for_model('cpgg_mar')).__name__)\n"
        "from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES\n"
        "print('cpgg_hf' in LOADABLE_CLASSES)\n"
        "print([name for name in cpgg_hf.__all__ if not hasattr(cpgg_hf, name)])\n"
        "print(hasattr(cpgg_hf, 'CPGGPipelin'), set(cpgg_hf.__all__) <= set(dir(cpgg_hf)))"
    )
    assert output.split("\n")[:4] == ["CPGGMARConfig", "True", "[]", "False True"]


@pytest.mark.parametrize("first", ["import cpgg_hf\nimport diffusers", "import diffusers\nimport cpgg_hf"])
def test_diffusers_loads_the_pipeline_by_its_own_class_after_the_import(first, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    script = f"""
{first}
pipe = diffusers.DiffusionPipeline.from_pretrained({str(tmp_path)!r})
assert type(pipe) is cpgg_hf.CPGGPipeline, type(pipe)
assert pipe.config.num_decoding_steps == 3
"""
    run_python(script)
