"""`push_to_hub` of pipeline and models, and `from_pretrained` of what it pushed: revisions, shards, variants."""

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from tiny_checkpoint import tiny_components, tiny_pipeline
from transformers import AutoConfig, AutoModel

from cpgg_hf import AutoencoderKLCPGG, CPGGMARModel, CPGGPhenotypeVAE, CPGGPipeline
from cpgg_hf.errors import PolicyError, PublishingError


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def _cine(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe({"LVEF": 30.0}, generator=torch.Generator().manual_seed(0)).cines


def _same_weights(first, second):
    expected, given = first.state_dict(), second.state_dict()
    assert expected.keys() == given.keys()
    assert all(torch.equal(tensor, given[name]) for name, tensor in expected.items())


def test_a_pipeline_comes_back_from_the_hub_as_it_went_and_by_revision(pipe, tmp_path):
    first = pipe.push_to_hub("user/pipeline").rsplit("/", 1)[-1]
    assert HfApi().repo_info("user/pipeline").private
    changed = tiny_pipeline(guidance_scale=1.0)
    changed.push_to_hub("user/pipeline", revision="unguided")
    loaded = CPGGPipeline.from_pretrained("user/pipeline", cache_dir=tmp_path)
    assert loaded.data_policy == "phantom"
    assert np.array_equal(_cine(loaded), _cine(pipe))
    of_branch = CPGGPipeline.from_pretrained("user/pipeline", revision="unguided", cache_dir=tmp_path)
    assert (loaded.config.guidance_scale, of_branch.config.guidance_scale) == (2.0, 1.0)
    changed.push_to_hub("user/pipeline")
    of_commit = CPGGPipeline.from_pretrained("user/pipeline", revision=first, cache_dir=tmp_path)
    assert of_commit.config.guidance_scale == 2.0


def test_each_model_comes_back_by_its_class_and_the_transformer_by_auto_model(pipe, tmp_path):
    for name, model_class in (("mar", CPGGMARModel), ("vae", AutoencoderKLCPGG), ("phenotype_vae", CPGGPhenotypeVAE)):
        model = getattr(pipe, name)
        model.push_to_hub(f"user/{name}")
        _same_weights(model, model_class.from_pretrained(f"user/{name}", cache_dir=tmp_path))
    loaded = AutoModel.from_pretrained("user/mar", cache_dir=tmp_path)
    assert type(loaded) is CPGGMARModel
    _same_weights(pipe.mar, loaded)
    assert AutoConfig.from_pretrained("user/mar", cache_dir=tmp_path).data_policy == "phantom"


def test_saving_can_push_too_and_is_private(pipe, tmp_path):
    pipe.mar.save_pretrained(tmp_path / "mar", push_to_hub=True, repo_id="user/saved")
    assert HfApi().repo_info("user/saved").private
    _same_weights(pipe.mar, CPGGMARModel.from_pretrained(tmp_path / "mar"))
    _same_weights(pipe.mar, CPGGMARModel.from_pretrained("user/saved", cache_dir=tmp_path / "cache"))


def test_shards_and_half_precision_come_back_from_the_hub(pipe, tmp_path):
    pipe.push_to_hub("user/shards", max_shard_size="20KB")
    files = HfApi().list_repo_files("user/shards")
    for name in ("mar/model", "vae/diffusion_pytorch_model"):
        assert f"{name}.safetensors.index.json" in files
        assert sum(file.startswith(f"{name}-0000") for file in files) > 1
    full = _cine(CPGGPipeline.from_pretrained("user/shards", cache_dir=tmp_path))
    assert np.array_equal(full, _cine(pipe))

    half = tiny_pipeline().to(torch.float16)
    half.push_to_hub("user/shards", variant="fp16")
    files = HfApi().list_repo_files("user/shards")
    assert {"mar/model.fp16.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"} <= set(files)
    assert "mar/model.safetensors.index.json" in files, "the full weights are still there"
    options = {"variant": "fp16", "dtype": torch.float16, "cache_dir": tmp_path / "half"}
    loaded = CPGGPipeline.from_pretrained("user/shards", **options)
    for name in ("mar", "vae"):
        assert getattr(loaded, name).dtype == torch.float16
        _same_weights(getattr(half, name), getattr(loaded, name))
    assert np.array_equal(_cine(CPGGPipeline.from_pretrained("user/shards", cache_dir=tmp_path)), full)


def test_shards_and_variants_in_one_folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, max_shard_size="20KB")
    half = tiny_pipeline().to(torch.float16)
    half.save_pretrained(tmp_path, variant="fp16")
    assert np.array_equal(_cine(CPGGPipeline.from_pretrained(tmp_path)), _cine(pipe))
    loaded = CPGGPipeline.from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    _same_weights(half.mar, loaded.mar)


def test_the_transformer_only_in_shards_and_half_precision(pipe, tmp_path):
    pipe.mar.push_to_hub("user/mar-shards", max_shard_size="20KB")
    assert "model.safetensors.index.json" in HfApi().list_repo_files("user/mar-shards")
    _same_weights(pipe.mar, AutoModel.from_pretrained("user/mar-shards", cache_dir=tmp_path / "full"))
    half = tiny_components()["mar"].half()
    half.push_to_hub("user/mar-shards", variant="fp16")
    options = {"variant": "fp16", "dtype": torch.float16, "cache_dir": tmp_path / "half"}
    _same_weights(half, AutoModel.from_pretrained("user/mar-shards", **options))


def test_a_push_brings_a_model_card(pipe):
    pipe.push_to_hub("user/with-card")
    pipe.mar.push_to_hub("user/network-card")
    card = ModelCard.load("user/with-card")
    assert card.data.to_dict()["data_policy"] == "phantom"
    assert 'from_pretrained("user/with-card")' in card.text
    assert "CPGGMARModel" in ModelCard.load("user/network-card").text


def test_a_pull_request_leaves_the_branch_as_it_is(pipe):
    pipe.vae.push_to_hub("user/proposed")
    before = HfApi().repo_info("user/proposed").sha
    changed = tiny_components()["vae"]
    changed.decoder.conv_out.bias.data += 1.0
    url = changed.push_to_hub("user/proposed", create_pr=True, commit_message="Better weights")
    assert "/user/proposed/discussions/1" in url
    assert HfApi().repo_info("user/proposed").sha == before
    assert HfApi().list_repo_commits("user/proposed", revision="refs/pr/1")[0].title == "Better weights"
    with pytest.raises(PublishingError, match="a pull request to the main branch; leave out revision"):
        pipe.vae.push_to_hub("user/proposed", create_pr=True, revision="other")


def test_an_unknown_option_is_refused_and_nothing_is_pushed(pipe, tmp_path):
    for model in (pipe, pipe.mar, pipe.vae, pipe.phenotype_vae):
        with pytest.raises(TypeError, match=r"unknown options \['privat'\]; expected among .*create_pr, .*private"):
            model.push_to_hub("user/unknown-option", privat=False)
        with pytest.raises(TypeError, match=r"unknown options \['shard_size'\]"):
            model.save_pretrained(tmp_path, shard_size="1GB")
    assert not HfApi().repo_exists("user/unknown-option")


def test_what_is_restricted_is_not_pushed_by_any_way(pipe, tmp_path):
    mar = tiny_components()["mar"]
    mar.config.data_policy = None
    pipe = CPGGPipeline(**{**tiny_components(), "mar": mar})
    assert pipe.data_policy == "restricted"
    for push in (
        lambda: pipe.push_to_hub("user/never"),
        lambda: pipe.save_pretrained(tmp_path / "pipe", push_to_hub=True, repo_id="user/never"),
        lambda: mar.push_to_hub("user/never"),
        lambda: mar.save_pretrained(tmp_path / "mar", push_to_hub=True, repo_id="user/never"),
    ):
        with pytest.raises(PolicyError, match=r"config\.json states no data policy"):
            push()
    assert not HfApi().repo_exists("user/never")
    mar.push_to_hub("user/never", override_policy="approved by the committee")
    assert HfApi().repo_info("user/never").private
