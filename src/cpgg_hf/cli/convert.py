"""`cpgg convert`: a model of this package from published CPGG weights."""

import argparse
import json
from pathlib import Path
from typing import Any

from cpgg_hf.cli.options import new_command
from cpgg_hf.data_policy import DATA_POLICIES, UNKNOWN_POLICY
from cpgg_hf.errors import CheckpointError, brief


def add_command(commands: Any) -> None:
    """Add `convert` to the commands."""
    convert = new_command(commands, "convert", _run, "convert published CPGG weights to this package")
    convert.add_argument("kind", choices=("mar", "phenotype_vae"), help="network that the weights belong to")
    convert.add_argument("weights", help="published weights: .safetensors, or a PyTorch file (.pt, .pth, .ckpt)")
    convert.add_argument("--out", required=True, help="folder to write the model to")
    convert.add_argument("--config", help="JSON file with the published sizes (needed for mar)")
    convert.add_argument("--key", help="entry of the PyTorch file that contains the weights, such as model_ema")
    convert.add_argument("--phenotypes", help="CSV of the training set's phenotypes, for mean and sd")
    text = f"data policy of the weights: {', '.join(DATA_POLICIES)}"
    convert.add_argument("--data-policy", choices=DATA_POLICIES, default=UNKNOWN_POLICY, metavar="POLICY", help=text)


def _run(arguments: argparse.Namespace) -> None:
    from cpgg_hf.models.converters import convert_published_mar, convert_published_phenotype_vae
    from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
    from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
    from cpgg_hf.phenotypes import read_csv

    state_dict = _read_weights(Path(arguments.weights), arguments.key)
    table = None if arguments.phenotypes is None else read_csv(arguments.phenotypes)
    scaler = {}
    if table is not None:
        fitted = CPGGPhenotypeVAE.from_phenotypes(table).config
        scaler = {name: fitted[name] for name in ("phenotype_mean", "phenotype_sd")}
    model: Any
    if arguments.kind == "mar":
        if arguments.config is None:
            raise CheckpointError("the published transformer does not store its sizes; give them with --config.")
        config, converted = convert_published_mar(state_dict, _read_sizes(Path(arguments.config)), **scaler)
        config.data_policy = arguments.data_policy
        model = CPGGMARModel(config)
    else:
        settings, converted = convert_published_phenotype_vae(state_dict)
        model = CPGGPhenotypeVAE(**settings, **scaler, data_policy=arguments.data_policy)
    model.load_state_dict(converted)
    if arguments.kind == "phenotype_vae" and table is not None:
        model.fit_sampler(table)
    model.eval().save_pretrained(arguments.out)
    print(f"wrote {arguments.out} (data policy: {arguments.data_policy})")


def _read_weights(path: Path, key: str | None) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)  # never runs code from the file
    except Exception as error:  # the libraries raise many kinds
        raise CheckpointError(f"cannot read weights from {path} ({brief(error)}).") from error
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise CheckpointError(f"{path} has no entry {key!r}; expected one of {brief(list(content))}.")
        content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} is not a table of tensors; name the entry that is one with --key.")
    return content


def _read_sizes(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"cannot read sizes from {path} ({brief(error)}); expected a JSON object.") from error
