"""cpgg_hf: phenotype-controlled cardiac cine MRI (CPGG, arXiv 2505.03426) in the Hugging Face ecosystem.

Importing the package does not load torch, diffusers, transformers or pandas; accessing a public class loads them and
registers the class with the libraries. `DiffusionPipeline.from_pretrained` finds `CPGGPipeline` from the import on.
"""

import importlib.abc
import importlib.util
import sys

from cpgg_hf.version import __version__

_PUBLIC = {
    "AutoencoderKLCPGG": "cpgg_hf.models.autoencoder_kl_cpgg",
    "CPGGDDPMScheduler": "cpgg_hf.models.scheduling_cpgg_ddpm",
    "CPGGMARConfig": "cpgg_hf.models.configuration_cpgg_mar",
    "CPGGMARModel": "cpgg_hf.models.modeling_cpgg_mar",
    "CPGGPhenotypeVAE": "cpgg_hf.models.phenotype_vae",
    "CPGGPipeline": "cpgg_hf.pipeline_cpgg",
    "CPGGPipelineOutput": "cpgg_hf.pipeline_cpgg",
}
_SUBPACKAGES = ("measure", "metrics", "phantom", "phenotypes")

__all__ = ["__version__", *_PUBLIC, *_SUBPACKAGES]


def __getattr__(name: str):
    from importlib import import_module

    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        import_module("cpgg_hf.models.registration").register()
    elif name in _SUBPACKAGES:
        value = import_module(f"cpgg_hf.{name}")
    else:
        raise AttributeError(f"module 'cpgg_hf' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _announce_pipeline() -> None:
    """Lets diffusers, which looks up pipeline classes among its own, find `CPGGPipeline` here when it is needed."""
    sys.modules["diffusers.cpgg_hf"] = sys.modules[__name__]
    sys.modules["diffusers"]._class_to_module["CPGGPipeline"] = __name__


class _AfterImport(importlib.abc.MetaPathFinder):
    """Announces the pipeline as soon as diffusers is imported."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        if name != "diffusers":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_announce(module):
                execute(module)
                _announce_pipeline()

            spec.loader.exec_module = execute_and_announce  # type: ignore[method-assign]
        return spec


if "diffusers" in sys.modules:
    _announce_pipeline()
else:
    sys.meta_path.insert(0, _AfterImport())
