"""cpgg_hf: phenotype-controlled cardiac cine MRI (CPGG, arXiv 2505.03426) in the Hugging Face ecosystem.

Importing the package does not load torch, diffusers, transformers or pandas; accessing a public class loads them and
registers the class with the libraries.
"""

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
