"""Registers the classes of this package with the loaders of diffusers and transformers.

diffusers loads third-party components from a Hub repository only if their library is in its tables. These are private
API, so `tests/models/test_registration.py` checks them.
"""

from functools import cache

_DIFFUSERS_CLASSES = ("AutoencoderKLCPGG", "CPGGDDPMScheduler", "CPGGMARModel", "CPGGPhenotypeVAE")


@cache
def register() -> None:
    """Registers the package's classes with diffusers, `AutoConfig` and `AutoModel`; repeated calls do nothing."""
    from diffusers.pipelines import pipeline_loading_utils
    from transformers import AutoConfig, AutoModel

    from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
    from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel

    loaders = {name: ["save_pretrained", "from_pretrained"] for name in _DIFFUSERS_CLASSES}
    pipeline_loading_utils.LOADABLE_CLASSES.setdefault("cpgg_hf", loaders)
    pipeline_loading_utils.ALL_IMPORTABLE_CLASSES.update(loaders)
    AutoConfig.register(CPGGMARConfig.model_type, CPGGMARConfig, exist_ok=True)
    AutoModel.register(CPGGMARConfig, CPGGMARModel, exist_ok=True)
