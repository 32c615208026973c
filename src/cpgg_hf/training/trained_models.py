"""Trained networks that a stage builds on: loaded, or extended by a LoRA."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers import AutoencoderKL
from transformers import PreTrainedModel

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.models.checkpoint_files import check_model
from cpgg_hf.optional import import_optional


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
    if missing := loading["missing_keys"]:
        raise TrainingError(
            f"{source} lacks {len(missing)} tensors of its AutoencoderKL, such as {min(missing)!r}; download it again."
        )
    return network


def add_lora(network: PreTrainedModel, rank: int, accelerator: Accelerator) -> None:
    """Freeze a trained network and add a LoRA (PEFT) of this rank to each of its linear layers.

    The update of a layer is scaled by 1 at any rank (`lora_alpha` is the rank), and starts at 0. `save_pretrained` and
    `push_to_hub` then write only the adapter, which `network.load_adapter` loads onto the network it was trained on.

    Raises:
        TrainingError: PEFT is not installed, or the weights would be sharded.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        raise TrainingError(f"a LoRA (lora_rank {rank}) cannot be trained under FSDP; use DDP or one device.")
    try:
        peft = import_optional("peft", "adapters")
    except ImportError as error:
        raise TrainingError(str(error)) from None
    network.add_adapter(peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear"))
