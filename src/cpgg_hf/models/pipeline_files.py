"""Checks the files of a pipeline before loading; see `checkpoint_files`."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from cpgg_hf.errors import CheckpointError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.checkpoint_files import check_model, read_json
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE

_MODELS = {"phenotype_vae": CPGGPhenotypeVAE, "mar": CPGGMARModel, "vae": AutoencoderKLCPGG}


def check_pipeline(folder: Path, class_name: str, given: Collection[str]) -> None:
    """Checks `model_index.json` and all components of a pipeline's folder.

    Args:
        folder: folder of the pipeline.
        class_name: class of the pipeline.
        given: components that the caller passes as arguments; they are not checked.

    Raises:
        CheckpointError: the folder is not such a pipeline, or a component is missing or damaged.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a pipeline because it has no model_index.json; give the folder that contains it."
        )
    index = read_json(path)
    found = index.get("_class_name")
    if class_name not in (found if isinstance(found, list) else [found]):
        raise CheckpointError(f"{path} describes {found}, not {class_name}; give a checkpoint of this package.")
    components: dict[str, Any] = {"scheduler": None, **_MODELS}
    for name in [name for name in components if name not in given]:
        if name not in index or not (folder / name).is_dir():
            raise CheckpointError(f"{folder} lacks the component {name}; download the checkpoint again.")
        if name == "scheduler":  # of any class
            read_json(folder / name / "scheduler_config.json")
            continue
        model_class = components[name]
        declared = index[name][-1] if isinstance(index[name], list) and index[name] else None
        if declared != model_class.__name__:
            raise CheckpointError(
                f"{path} names {declared} for {name}, expected {model_class.__name__}; give a checkpoint of this "
                "package."
            )
        check_model(folder / name, model_class)
