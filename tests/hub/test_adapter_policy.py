"""A network that an adapter is loaded onto has the stricter data policy of the two, and is pushed by that."""

import pytest
from huggingface_hub import HfApi
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny_checkpoint import tiny_components, tiny_pipeline

from cpgg_hf.errors import PolicyError


def adapted(policy):
    """A tiny MAR with an adapter that was trained on data of some policy."""
    mar = tiny_components()["mar"]
    mar.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules="all-linear"))
    mar.config.data_policy = policy
    return mar


@pytest.mark.parametrize(
    ("own", "adapters", "expected"),
    [
        ("phantom", "phantom", "phantom"),
        ("phantom", "public", "public"),
        ("phantom", "restricted", "restricted"),
        ("restricted", "phantom", "restricted"),
        ("phantom", None, "restricted"),
        (None, "phantom", "restricted"),
    ],
)
def test_the_stricter_policy_of_network_and_folder_is_taken_over(tmp_path, own, adapters, expected):
    adapted(adapters).save_pretrained(tmp_path)
    pipe = tiny_pipeline()
    pipe.mar.config.data_policy = own
    pipe.mar.load_adapter(str(tmp_path))
    assert (pipe.mar.config.data_policy, pipe.data_policy) == (expected, expected)


def test_an_adapter_without_a_policy_file_is_restricted(tmp_path):
    adapted("phantom").save_pretrained(tmp_path)
    (tmp_path / "data_policy.json").unlink()
    mar = tiny_components()["mar"]
    mar.load_adapter(str(tmp_path))
    assert mar.config.data_policy == "restricted"


def test_neither_the_adapted_nor_the_merged_network_nor_its_pipeline_is_pushed(tmp_path):
    adapted("restricted").save_pretrained(tmp_path)
    pipe = tiny_pipeline()
    pipe.mar.load_adapter(str(tmp_path))
    with pytest.raises(PolicyError, match="is restricted and is not pushed"):
        pipe.mar.push_to_hub("user/adapted")
    for module in pipe.mar.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    pipe.mar.delete_adapter("default")
    for push in (pipe.mar.push_to_hub, pipe.push_to_hub):
        with pytest.raises(PolicyError, match="is restricted and is not pushed"):
            push("user/merged")
    assert not any(HfApi().repo_exists(name) for name in ("user/adapted", "user/merged"))


def test_the_policy_is_that_of_the_revision_that_is_loaded_from_the_hub():
    adapted("public").push_to_hub("user/site")
    adapted("restricted").push_to_hub("user/site", revision="patients", override_policy="approved by the committee")
    for options, expected in (({}, "public"), ({"adapter_kwargs": {"revision": "patients"}}, "restricted")):
        mar = tiny_components()["mar"]
        mar.load_adapter("user/site", **options)
        assert mar.config.data_policy == expected
