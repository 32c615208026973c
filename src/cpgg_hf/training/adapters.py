"""LoRA (PEFT): low-rank matrices trained on top of frozen weights, for a new site with few cines.

`save_pretrained` and `push_to_hub` then write only the adapter; `pipe.mar.load_adapter(folder_or_repository)` loads it
onto the network that it was trained on.
"""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import PreTrainedModel

from cpgg_hf.errors import TrainingError
from cpgg_hf.optional import import_optional


def add_lora(network: PreTrainedModel, rank: int, accelerator: Accelerator) -> None:
    """Freeze a trained network and add a LoRA of this rank to each of its linear layers.

    The update of a layer is scaled by 1 at any rank (`lora_alpha` is the rank), and starts at 0.

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
