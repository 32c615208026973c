"""Trained networks that a stage builds on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.models.checkpoint_files import check_model


def load_trained(model_class: Any, source: str) -> Any:
    """The network in a folder, whose files are checked first, or in a hub repository.

    Raises:
        CheckpointError: the folder holds no such network, or a damaged one.
        TrainingError: there is no such folder, and no such repository.
    """
    folder = Path(source)
    if folder.is_dir():
        check_model(folder, model_class)
    try:
        return model_class.from_pretrained(source, use_safetensors=True)
    except OSError as error:
        raise TrainingError(
            f"there is no folder {source}, and no {model_class.__name__} came from the hub repository of that name "
            f"({brief(error)}); check the name, the network and the access rights."
        ) from error


def load_autoencoder_2d(source: str) -> AutoencoderKL:
    """The 2D autoencoder in a folder or a hub repository; diffusers renames the attention of older ones.

    Raises:
        TrainingError: there is none, or some of its weights are missing.
    """
    try:
        network, loading = AutoencoderKL.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    except OSError as error:
        raise TrainingError(
            f"no AutoencoderKL came from the folder or repository {source} ({brief(error)}); give the folder `vae` "
            "of a Stable Diffusion pipeline with its safetensors, or a repository that is one."
        ) from error
    if loading["missing_keys"]:
        raise TrainingError(
            f"{source} lacks {len(loading['missing_keys'])} tensors of its AutoencoderKL, such as "
            f"{min(loading['missing_keys'])!r}; download it again."
        )
    return network
