"""Assemble trained networks into one pipeline folder for `CPGGPipeline.from_pretrained`.

python training_scripts/assemble_pipeline.py --phenotype_vae runs/phantom_small_phenotype_vae/model \
        --vae runs/phantom_small_vae_refined/ema --mar runs/phantom_small_mar/ema \
        --cine_segmenter runs/cine_segmenter/ema --scan_segmenter runs/scan_segmenter/ema \
        --guidance_scale 1.5 --num_decoding_steps 36 --half --out checkpoints/cpgg-phantom-small
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cpgg_hf import AutoencoderKLCPGG, CPGGDDPMScheduler, CPGGMARModel, CPGGPhenotypeVAE, CPGGPipeline
from cpgg_hf.cli.main import exit_code
from cpgg_hf.cli.models import CINE_SEGMENTER_FOLDER, SCAN_SEGMENTER_FOLDER
from cpgg_hf.cli.options import positive
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.files.staging import check_new, staged_folder
from cpgg_hf.models.scheduling_cpgg_ddpm import scheduler_of_head
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.trained_models import load_trained
from push_options import add_push_options, push_result

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "cpgg-phantom-small"
SEGMENTERS = {
    CINE_SEGMENTER_FOLDER: "measures generated cines",
    SCAN_SEGMENTER_FOLDER: "locates and measures the heart in scans",
}


def main() -> int:
    """Assemble and save the pipeline; the segmenters are subfolders outside the pipeline's index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("phenotype_vae", "vae", "mar", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name, purpose in SEGMENTERS.items():
        text = f"segmenter that {purpose} (default: the shipped checkpoint's)"
        parser.add_argument(f"--{name}", type=Path, default=SHIPPED / name, help=text)
    parser.add_argument("--guidance_scale", type=float, default=3.0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--num_decoding_steps", type=positive, default=16)
    parser.add_argument("--num_inference_steps", type=positive, default=100)
    parser.add_argument("--micro_batch_size", type=positive, default=8)
    parser.add_argument(
        "--clip_sample_range", type=float, help="clip the estimate of the original at each diffusion step"
    )
    parser.add_argument("--half", action="store_true", help="store the weights of VAE and MAR as float16")
    add_push_options(parser)
    arguments = parser.parse_args()

    check_new(arguments.out)
    segmenters = {name: load_trained(CineSegmenter, str(getattr(arguments, name))) for name in SEGMENTERS}
    mar = load_trained(CPGGMARModel, str(arguments.mar))
    scheduler = scheduler_of_head(mar.config.head_type, mar.config.num_train_timesteps)
    if arguments.clip_sample_range is not None:
        scheduler = CPGGDDPMScheduler(clip_sample=True, clip_sample_range=arguments.clip_sample_range)
    pipe = CPGGPipeline(
        load_trained(CPGGPhenotypeVAE, str(arguments.phenotype_vae)),
        mar,
        load_trained(AutoencoderKLCPGG, str(arguments.vae)),
        scheduler,
        guidance_scale=arguments.guidance_scale,
        temperature=arguments.temperature,
        num_decoding_steps=arguments.num_decoding_steps,
        num_inference_steps=arguments.num_inference_steps,
        micro_batch_size=arguments.micro_batch_size,
    )
    with staged_folder(arguments.out) as folder:
        pipe.save_pretrained(folder)
        for name, segmenter in segmenters.items():
            segmenter.save_pretrained(folder / name)
        for path in folder.glob("*/config.json"):
            forget_origin(path)
        if arguments.half:
            for component in ("vae", "mar"):
                for path in (folder / component).glob("*.safetensors"):
                    store_half(path)
        for component in (path.parent for path in folder.glob("*/config.json")):  # its files have changed since
            policy = json.loads((component / "config.json").read_text(encoding="utf-8"))["data_policy"]
            record_policy(component, policy, component.iterdir())
    size = sum(path.stat().st_size for path in arguments.out.rglob("*.safetensors"))
    print(f"wrote {arguments.out}: {size / 1e6:.1f} MB of weights")
    return push_result(arguments, arguments.out)


def forget_origin(path: Path) -> None:
    """Remove from a configuration the local path that its component was loaded from."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("_name_or_path", None)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def store_half(path: Path) -> None:
    """Rewrite a file's tensors as float16; `from_pretrained` loads them as the configuration's float32."""
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


if __name__ == "__main__":
    sys.exit(exit_code(main))
