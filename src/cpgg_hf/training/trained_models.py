"""Loads trained networks that a stage builds on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.models.checkpoint_files import check_model


def load_trained(model_class: Any, source: str) -> Any:
    """The network in a folder, whose files are checked first, or in a Hub repository.

    Raises:
        CheckpointError: the folder holds no such network, or a damaged one.
        TrainingError: there is neither such a folder nor such a repository.
    """
    folder = Path(source)
    if folder.is_dir():
        check_model(folder, model_class)
    try:
        return model_class.from_pretrained(source, use_safetensors=True)
    except OSError as error:
        raise TrainingError(
            f"{source} is neither a local folder nor a Hub repository with a {model_class.__name__} "
            f"({brief(error)}); check the name, the connection and the access rights."
        ) from error


def load_autoencoder_2d(source: str) -> AutoencoderKL:
    """The 2D autoencoder in a folder or a Hub repository; diffusers renames the attention layers of older ones.

    Raises:
        TrainingError: it cannot be loaded, or some of its weights are missing.
    """
    try:
        network, loading = AutoencoderKL.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    except OSError as error:
        raise TrainingError(
            f"cannot load an AutoencoderKL from {source} ({brief(error)}); pass the folder `vae` of a Stable "
            "Diffusion pipeline with safetensors, or a repository that holds one."
        ) from error
    if loading["missing_keys"]:
        raise TrainingError(
            f"{source} lacks {len(loading['missing_keys'])} tensors of its AutoencoderKL, such as "
            f"{min(loading['missing_keys'])!r}; download it again."
        )
    return network
