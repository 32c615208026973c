"""An untrained pipeline of the package's own classes on the real grid (50 x 96 x 96), small enough for seconds."""

import shutil
from pathlib import Path

import torch

from cpgg_hf import (
    AutoencoderKLCPGG,
    CPGGDDPMScheduler,
    CPGGMARConfig,
    CPGGMARModel,
    CPGGPhenotypeVAE,
    CPGGPipeline,
    phantom,
)
from cpgg_hf.segmentation.segmenter import CineSegmenter

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "cpgg-phantom-small"


def tiny_components() -> dict:
    """Components whose latents are (4, 10, 6, 6) in 40 tokens, with every weight random (zeros would hide faults)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        training_set = phantom.sample_phenotypes(100, seed=0)
        phenotype_vae = CPGGPhenotypeVAE.from_phenotypes(
            training_set, hidden_dims=(16,), latent_dim=4, num_mixture_components=1, data_policy="phantom"
        )
        phenotype_vae.fit_sampler(training_set)
        vae = AutoencoderKLCPGG(
            block_out_channels=(8, 8),
            temporal_factors=(1,),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            patch_size=(5, 8, 8),
            latents_mean=[0.3, -0.2, 0.1, 0.0],
            latents_std=[0.5, 1.5, 1.0, 2.0],
            mid_block_add_attention=False,
            data_policy="phantom",
        )
        mar = CPGGMARModel(
            CPGGMARConfig(
                phenotype_mean=phenotype_vae.config.phenotype_mean,
                phenotype_sd=phenotype_vae.config.phenotype_sd,
                latent_channels=4,
                latent_size=(10, 6, 6),
                patch_size=(1, 3, 3),
                encoder_width=16,
                encoder_depth=1,
                decoder_width=16,
                decoder_depth=1,
                num_attention_heads=2,
                num_condition_tokens=2,
                head_width=16,
                head_depth=1,
                data_policy="phantom",
            )
        )
        for parameter in mar.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return {
        "phenotype_vae": phenotype_vae.eval(),
        "mar": mar.eval(),
        "vae": vae.eval(),
        "scheduler": CPGGDDPMScheduler(),
    }


def tiny_pipeline(**settings) -> CPGGPipeline:
    """A pipeline of `tiny_components` with few steps."""
    defaults = {"guidance_scale": 2.0, "num_decoding_steps": 3, "num_inference_steps": 4, "micro_batch_size": 2}
    pipe = CPGGPipeline(**tiny_components(), **{**defaults, **settings})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_tiny_checkpoint(folder: Path) -> Path:
    """Saves `tiny_pipeline` with an untrained segmenter beside it; the scan segmenter is the shipped one.

    An untrained one would find no heart.
    """
    tiny_pipeline().save_pretrained(folder)
    shutil.copytree(SHIPPED / "scan_segmenter", folder / "scan_segmenter")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        segmenter = CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2, data_policy="phantom")
    segmenter.save_pretrained(folder / "cine_segmenter")
    return folder
