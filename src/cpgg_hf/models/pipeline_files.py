"""Loads and saves `CPGGPipeline` with checked files; hub repositories that load without the package leave this out."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cpgg_hf.errors import CheckpointError, brief
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.checkpoint_files import check_index, check_model, read_json
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE

_MODELS = {"phenotype_vae": CPGGPhenotypeVAE, "mar": CPGGMARModel, "vae": AutoencoderKLCPGG}


class PipelineFilesMixin:
    """`from_pretrained` and `save_pretrained` of the pipeline: safetensors only, with one clear sentence per fault."""

    mar: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Loads a pipeline from a folder or a Hub repository; see [`~diffusers.DiffusionPipeline.from_pretrained`].

        Weights are loaded as float32 unless `torch_dtype` is given.

        Raises:
            CheckpointError: the folder is not a CPGG pipeline, is damaged, or contains pickles instead of safetensors.
        """
        kwargs["use_safetensors"] = True
        if "torch_dtype" not in kwargs:
            # transformers would take the dtype of the configuration, which a half-precision variant has changed.
            kwargs.setdefault("dtype", torch.float32)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            cls._check_files(folder, given=kwargs.keys())
        # `name` and `owner/name` are Hub repositories, unless a local folder is called like the owner.
        elif folder.exists() or len(folder.parts) > 2 or (len(folder.parts) == 2 and folder.parent.is_dir()):
            raise CheckpointError(
                f"there is no folder {folder}; give the folder that save_pretrained wrote, or a Hub repository."
            )
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)  # type: ignore[misc]
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            if folder.is_dir():
                raise CheckpointError(f"cannot load the pipeline in {folder} ({brief(error)}).") from error
            raise CheckpointError(
                f"{folder} is neither a local folder nor a Hub repository with a pipeline ({brief(error)}); "
                "check the name, the network and the access rights."
            ) from error

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves the pipeline as safetensors; see [`~diffusers.DiffusionPipeline.save_pretrained`].

        Raises:
            ValueError: the MAR carries an adapter, because its own weights would then not be saved.
        """
        if getattr(self.mar, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"the MAR carries the adapters {list(self.mar.peft_config)}, which a pipeline does not save; keep "
                "them with pipe.mar.save_pretrained(folder), or remove them with pipe.mar.delete_adapter(name) first."
            )
        super().save_pretrained(save_directory, **kwargs)  # type: ignore[misc]

    @classmethod
    def _check_files(cls, folder: Path, given: Collection[str]) -> None:
        """Checks all components in a folder except those that the caller passes as arguments."""
        models = {name: model_class for name, model_class in _MODELS.items() if name not in given}
        expected: dict[str, str | None] = {name: model_class.__name__ for name, model_class in models.items()}
        if "scheduler" not in given:
            expected["scheduler"] = None
        check_index(folder, cls.__name__, expected)
        if "scheduler" not in given:
            read_json(folder / "scheduler" / "scheduler_config.json")
        for name, model_class in models.items():
            check_model(folder / name, model_class)
