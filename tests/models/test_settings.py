"""The settings of a call: defaults from a config, overrides, and text that command line and cards print."""

from dataclasses import asdict, fields

import pytest

from cpgg_hf.models.settings import GenerationSettings

CONFIG = {"guidance_scale": 2.0, "temperature": 0.9, "num_decoding_steps": 36, "num_inference_steps": 50, "other": 1}


def test_overrides_win_and_none_is_the_configs():
    settings = GenerationSettings.of(CONFIG, guidance_scale=0.0, temperature=None)
    assert asdict(settings) == {
        "guidance_scale": 0.0, "temperature": 0.9, "num_decoding_steps": 36, "num_inference_steps": 50,
    }  # fmt: skip


def test_a_config_without_a_setting_takes_the_papers():
    assert GenerationSettings.of({}) == GenerationSettings(3.0, 1.0, 16, 100)


def test_every_field_has_help_and_a_type():
    assert all(
        one.metadata["help"] and isinstance(one.default, one.metadata["type"]) for one in fields(GenerationSettings)
    )


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match=r"unknown settings \['guidance'\]; expected among guidance_scale, temp"):
        GenerationSettings.of(CONFIG, guidance=2.0)
