"""The pipeline: what a diffusers user relies on, with tiny untrained components."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny_checkpoint import tiny_components, tiny_pipeline

from cpgg_hf import (
    AutoencoderKLCPGG,
    CPGGDDPMScheduler,
    CPGGMARConfig,
    CPGGMARModel,
    CPGGPhenotypeVAE,
    CPGGPipeline,
    CPGGPipelineOutput,
    phantom,
)
from cpgg_hf.errors import CheckpointError, PhenotypeError
from cpgg_hf.models.guidance import Guidance
from cpgg_hf.phenotypes import NAMES, identity_residuals

REQUEST = {"LVEF": 30.0, "LVEDV": 220.0}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def subjects():
    return phantom.sample_phenotypes(5, seed=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_output_is_cines_with_their_phenotypes_geometry_and_seeds(pipe):
    output = pipe(REQUEST, num_samples=3, generator=seeded())
    assert isinstance(output, CPGGPipelineOutput)
    assert output.cines.shape == (3, 50, 96, 96)
    assert output.cines.dtype == np.float32
    assert output.cines.min() >= 0
    assert output.cines.max() <= 1
    assert list(output.phenotypes.columns) == list(NAMES)
    assert output.spacing_mm == 1.8
    table = output.phenotypes
    np.testing.assert_allclose(output.frame_time_ms, 60000 / (1000 * table["LVCO"] / table["LVSV"]) / 50, rtol=1e-12)
    assert len(set(output.seeds.tolist())) == 3


def test_nothing_given_means_everything_sampled(pipe):
    output = pipe(num_samples=2, generator=seeded())
    values = output.phenotypes.to_numpy()
    assert np.isfinite(values).all()
    assert not np.array_equal(values[0], values[1])
    np.testing.assert_allclose(identity_residuals(values), 0, atol=1e-9)


def test_given_phenotypes_come_back_exactly_and_imply_others(pipe):
    output = pipe([REQUEST, {"RVEDV": 133.7}], num_samples=2, generator=seeded())
    table = output.phenotypes
    assert table["LVEF"].tolist()[:2] == [30.0, 30.0]
    assert table["LVEDV"].tolist()[:2] == [220.0, 220.0]
    np.testing.assert_allclose(table["LVESV"][:2], 154.0, rtol=1e-12)
    assert table["RVEDV"].tolist()[2:] == [133.7, 133.7]
    assert table["LVEDV"][2] != table["LVEDV"][3]


def test_all_forms_of_a_request_mean_the_same(pipe, subjects):
    frame = pd.DataFrame(subjects[:2], columns=NAMES)
    forms = [
        subjects[:2],
        frame,
        frame[reversed(NAMES)],
        frame.to_dict(orient="records"),
        list(torch.tensor(subjects[:2])),
    ]
    outputs = [pipe(form, generator=seeded(), output_type="latent").cines for form in forms]
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_subjects_of_a_frame_name_the_rows_of_the_output(pipe, subjects):
    frame = pd.DataFrame(subjects[:2], columns=NAMES, index=pd.Index(["a", "b"], name="subject"))
    output = pipe(frame, num_samples=2, generator=seeded(), output_type="latent")
    assert output.phenotypes.index.to_list() == ["a", "a", "b", "b"]
    assert pipe.sample_phenotypes(phenotypes=frame, generator=seeded()).index.to_list() == ["a", "b"]


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_a_sample_is_the_same_bytes_alone_in_a_batch_and_in_any_order(micro_batch_size, subjects):
    pipe = tiny_pipeline(micro_batch_size=micro_batch_size)
    batch = pipe(subjects, generator=[seeded(seed) for seed in range(5)]).cines
    order = [3, 0, 4, 1, 2]
    shuffled = pipe(subjects[order], generator=[seeded(seed) for seed in order]).cines
    assert np.array_equal(shuffled, batch[order])
    for index in range(5):
        alone = pipe(subjects[index], generator=[seeded(index)]).cines
        assert np.array_equal(alone[0], batch[index])
    assert not np.array_equal(batch[0], batch[1])


def test_one_generator_draws_the_first_sample_as_in_a_list_and_seeds_of_the_others(pipe):
    together = pipe(REQUEST, num_samples=3, generator=seeded(7))
    longer = pipe(REQUEST, num_samples=5, generator=seeded(7))
    assert np.array_equal(longer.cines[:3], together.cines)
    own = [seeded(int(seed)) for seed in together.seeds]
    listed = pipe(REQUEST, num_samples=3, generator=own)
    assert np.array_equal(listed.cines, together.cines)
    assert np.array_equal(listed.seeds, together.seeds)
    pd.testing.assert_frame_equal(listed.phenotypes, together.phenotypes)


def test_a_generator_and_a_list_of_it_draw_the_same_again_and_again(pipe):
    single, listed = seeded(7), seeded(7)
    calls = [(pipe(REQUEST, generator=single), pipe(REQUEST, generator=[listed])) for _ in range(2)]
    for one, other in calls:
        assert np.array_equal(one.cines, other.cines)
        pd.testing.assert_frame_equal(one.phenotypes, other.phenotypes)
    assert not np.array_equal(calls[0][0].cines, calls[1][0].cines)
    assert [output.seeds.tolist() for output in calls[0] + calls[1]] == [[7], [7], [-1], [-1]]


def test_without_a_generator_torchs_own_seed_decides(pipe):
    torch.manual_seed(5)
    first = pipe(REQUEST)
    second = pipe(REQUEST)
    torch.manual_seed(5)
    again = pipe(REQUEST)
    assert np.array_equal(first.cines, again.cines)
    assert not np.array_equal(first.cines, second.cines)


def test_sampled_phenotypes_given_back_make_the_same_cine(pipe):
    sampled = pipe(REQUEST, num_samples=2, generator=seeded())
    given = pipe(sampled.phenotypes, generator=seeded())
    assert np.array_equal(given.cines, sampled.cines)


def test_sample_phenotypes_draws_what_the_call_would(pipe):
    table = pipe.sample_phenotypes(REQUEST, num_samples=2, generator=seeded())
    pd.testing.assert_frame_equal(table, pipe(REQUEST, num_samples=2, generator=seeded()).phenotypes)


def test_missing_phenotypes_can_be_left_to_the_mar(pipe):
    output = pipe(REQUEST, fill_missing=False, generator=seeded())
    row = output.phenotypes.iloc[0]
    assert row["LVEF"] == 30.0
    assert row["LVESV"] == pytest.approx(154.0)
    assert row.isna().sum() == 82 - 4
    assert np.isnan(output.frame_time_ms[0])
    assert np.isfinite(output.cines).all()
    assert not np.array_equal(output.cines, pipe(REQUEST, generator=seeded()).cines)


def test_guidance_scale_one_ignores_the_null_condition_and_zero_the_phenotypes(subjects):
    pipe = tiny_pipeline()

    def latents(scale, row=0):
        return pipe(subjects[row], guidance_scale=scale, generator=seeded(), output_type="latent").cines

    before = {scale: latents(scale) for scale in (0.0, 1.0, 2.0)}
    assert torch.equal(latents(None), before[2.0])
    assert pipe.guidance_scale == 2.0
    assert torch.equal(latents(0.0, row=1), before[0.0])
    assert not torch.equal(latents(1.0, row=1), before[1.0])
    pipe.mar.null_condition_embedding.data += 1.0
    assert torch.equal(latents(1.0), before[1.0])
    assert not torch.equal(latents(2.0), before[2.0])


def test_defaults_come_from_the_pipelines_config(subjects):
    pipe = tiny_pipeline(num_decoding_steps=2, num_inference_steps=3, guidance_scale=1.0)
    default = pipe(subjects[0], generator=seeded(), output_type="latent").cines
    settings = {"num_decoding_steps": 2, "num_inference_steps": 3, "guidance_scale": 1.0}
    explicit = tiny_pipeline()(subjects[0], generator=seeded(), output_type="latent", **settings).cines
    assert torch.equal(default, explicit)


def test_output_types_hold_the_same_cines(pipe, subjects):
    outputs = {
        kind: pipe(subjects[:1], generator=seeded(), output_type=kind).cines for kind in ("np", "pt", "pil", "latent")
    }
    assert np.array_equal(outputs["pt"].numpy(), outputs["np"])
    picture = outputs["pil"][0][7]
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), np.round(outputs["np"][0, 7] * 255))
    mean, std = (torch.tensor(values).view(1, 4, 1, 1, 1) for values in ([0.3, -0.2, 0.1, 0.0], [0.5, 1.5, 1.0, 2.0]))
    with torch.no_grad():
        decoded = pipe.vae.decode(outputs["latent"] * std + mean).sample[:, 0]
    np.testing.assert_allclose(((decoded + 1) / 2).clamp(0, 1), outputs["np"], atol=1e-6)


def test_tuple_instead_of_an_output(pipe, subjects):
    output = pipe(subjects[:1], generator=seeded())
    cines, phenotypes, *_ = pipe(subjects[:1], generator=seeded(), return_dict=False)
    assert np.array_equal(cines, output.cines)
    pd.testing.assert_frame_equal(phenotypes, output.phenotypes)


def test_given_noise_is_where_the_diffusion_starts(pipe, subjects):
    noise = torch.randn(2, 4, 10, 6, 6, generator=seeded(1))

    def latents(noise):
        return pipe(subjects[:2], generator=seeded(), latents=noise, output_type="latent").cines

    changed = noise.clone()
    changed[1] += 0.5
    first, second = latents(noise), latents(changed)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    with pytest.raises(ValueError, match=r"latents must have shape \(3, 4, 10, 6, 6\), given \(2, "):
        pipe(REQUEST, num_samples=3, latents=noise)


def test_temperature_scales_the_diffusions_noise(pipe, subjects):
    latents = [
        pipe(subjects[:1], generator=seeded(), temperature=temperature, output_type="latent").cines
        for temperature in (1.0, 0.5)
    ]
    assert not torch.equal(*latents)


def test_the_configs_temperature_is_the_default_where_the_scheduler_knows_one(subjects):
    pipe = tiny_pipeline()
    given = pipe(subjects[:1], generator=seeded(), temperature=0.5, output_type="latent").cines
    pipe.register_to_config(temperature=0.5)
    assert torch.equal(pipe(subjects[:1], generator=seeded(), output_type="latent").cines, given)
    pipe.set_scheduler(DDIMScheduler)
    assert torch.isfinite(pipe(subjects[:1], generator=seeded(), output_type="latent").cines).all()


def test_callback_sees_every_step_of_every_micro_batch(pipe, subjects):
    seen = []

    def callback(pipe, step, decoding_step, kwargs):
        drawn = (kwargs["latents"] != 0).flatten(1).any(dim=0).float().mean().item()
        seen.append((step, decoding_step, len(kwargs["latents"]), drawn))
        return {}

    output = pipe(subjects[:3], generator=seeded(), callback_on_step_end=callback)
    assert [entry[:3] for entry in seen] == [(0, 0, 2), (1, 1, 2), (2, 2, 2), (3, 0, 1), (4, 1, 1), (5, 2, 1)]
    assert pipe.num_timesteps == 6
    assert seen[0][3] < seen[2][3] == 1.0
    assert np.array_equal(output.cines, pipe(subjects[:3], generator=seeded()).cines)


def test_callback_replaces_latents(pipe, subjects):
    def callback(pipe, step, decoding_step, kwargs):
        return {"latents": torch.zeros_like(kwargs["latents"])}

    output = pipe(subjects[:3], generator=seeded(), callback_on_step_end=callback, output_type="latent")
    assert not output.cines.any()


@pytest.mark.parametrize("by_attribute", [True, False])
def test_callback_changes_the_guidance_of_the_running_micro_batch_only(pipe, subjects, by_attribute):
    scales = []

    def callback(pipe, step, decoding_step, kwargs):
        scales.append(pipe.guidance_scale)
        if step != 0:
            return {}
        if by_attribute:
            pipe._guidance_scale = 0.0
            return {}
        return {"guidance_scale": 0.0}

    def draw(**options):
        return pipe(subjects[:4], generator=seeded(), output_type="latent", **options).cines

    plain, changed = draw(), draw(callback_on_step_end=callback)
    assert scales == [2.0, 0.0, 0.0, 2.0, 2.0, 2.0]
    assert not torch.equal(changed[0], plain[0])
    assert not torch.equal(changed[1], plain[1])
    assert torch.equal(changed[2:], plain[2:])

    class AfterTheFirstStep(Guidance):
        def scale(self, step):
            return 0.0 if step.decoding_step else 2.0

    assert torch.equal(draw(guidance_scale=AfterTheFirstStep())[:2], changed[:2])


def test_callback_interrupts(pipe, subjects):
    steps = []

    def callback(pipe, step, decoding_step, kwargs):
        steps.append(step)
        pipe._interrupt = step == 1
        return kwargs

    output = pipe(subjects[:3], generator=seeded(), callback_on_step_end=callback, output_type="latent")
    assert steps == [0, 1]
    assert pipe.interrupt
    assert output.cines[:2].any()
    assert not output.cines[2].any()
    assert np.isfinite(pipe(subjects[:1], generator=seeded()).cines).all()
    assert not pipe.interrupt


def test_saved_and_loaded_it_generates_the_same(pipe, checkpoint):
    loaded = CPGGPipeline.from_pretrained(checkpoint)
    index = json.loads((checkpoint / "model_index.json").read_text())
    assert {name: index[name] for name in ("phenotype_vae", "mar", "vae", "scheduler")} == {
        "phenotype_vae": ["cpgg_hf", "CPGGPhenotypeVAE"],
        "mar": ["cpgg_hf", "CPGGMARModel"],
        "vae": ["cpgg_hf", "AutoencoderKLCPGG"],
        "scheduler": ["cpgg_hf", "CPGGDDPMScheduler"],
    }
    assert loaded.config.guidance_scale == 2.0
    assert loaded.config.num_decoding_steps == 3
    assert not any(path.suffix in (".bin", ".pt") for path in checkpoint.rglob("*"))
    first, second = (one(REQUEST, num_samples=2, generator=seeded()) for one in (pipe, loaded))
    assert np.array_equal(first.cines, second.cines)
    pd.testing.assert_frame_equal(first.phenotypes, second.phenotypes)


def test_an_adapter_of_the_mar_comes_and_goes(subjects, tmp_path):
    pipe, adapted = tiny_pipeline(), tiny_pipeline()
    plain = pipe(subjects[:1], generator=seeded(), output_type="latent").cines
    adapted.mar.add_adapter(LoraConfig(r=2, lora_alpha=0.1, init_lora_weights=False, target_modules="all-linear"))
    adapted.mar.save_pretrained(tmp_path / "adapter")

    pipe.mar.load_adapter(str(tmp_path / "adapter"), adapter_name="new_site")
    changed = pipe(subjects[:1], generator=seeded(), output_type="latent").cines
    assert torch.equal(changed, adapted(subjects[:1], generator=seeded(), output_type="latent").cines)
    assert not torch.equal(changed, plain)
    with pytest.raises(ValueError, match=r"carries the adapters \['new_site'\], which a pipeline does not save"):
        pipe.save_pretrained(tmp_path / "pipeline")
    assert not (tmp_path / "pipeline").exists()

    pipe.mar.delete_adapter("new_site")
    pipe.save_pretrained(tmp_path / "pipeline")
    for again in (pipe, CPGGPipeline.from_pretrained(tmp_path / "pipeline")):
        assert torch.equal(again(subjects[:1], generator=seeded(), output_type="latent").cines, plain)


@pytest.mark.parametrize("names", [("first", "second"), ("a", "mar"), (None, "weight")])
def test_several_adapters_are_loaded_beside_each_other(subjects, tmp_path, names):
    def draw(pipe):
        return pipe(subjects[:1], generator=seeded(), output_type="latent").cines

    pipe, expected = tiny_pipeline(), []
    plain = draw(pipe)
    for seed, name in enumerate(names):
        adapted = tiny_pipeline()
        torch.manual_seed(seed)
        adapted.mar.add_adapter(LoraConfig(r=2, lora_alpha=0.1, init_lora_weights=False, target_modules="all-linear"))
        adapted.mar.save_pretrained(tmp_path / str(seed))
        expected.append(draw(adapted))
        pipe.mar.load_adapter(str(tmp_path / str(seed)), name)
    for name, latents in zip(names, expected, strict=True):
        pipe.mar.set_adapter(name or "default")
        assert torch.equal(draw(pipe), latents)
    pipe.mar.disable_adapters()
    assert torch.equal(draw(pipe), plain)


def test_a_pipeline_of_anothers_components_keeps_its_settings():
    pipe = tiny_pipeline(guidance_scale=1.5, micro_batch_size=3, pixel_spacing_mm=1.25)
    same, other = CPGGPipeline(**pipe.components), CPGGPipeline(**pipe.components, guidance_scale=1.0)
    for name in (
        "guidance_scale",
        "num_decoding_steps",
        "num_inference_steps",
        "micro_batch_size",
        "pixel_spacing_mm",
    ):
        assert same.config[name] == pipe.config[name]
    assert (other.config.guidance_scale, other.config.num_decoding_steps) == (1.0, 3)
    assert CPGGPipeline(**tiny_components()).config.guidance_scale == 3.0


@pytest.mark.parametrize("options", [{"low_cpu_mem_usage": False}, {"low_cpu_mem_usage": True}, {"device_map": "cpu"}])
def test_loading_options_of_diffusers_change_no_cine(pipe, checkpoint, options):
    loaded = CPGGPipeline.from_pretrained(checkpoint, **options)
    assert np.array_equal(loaded(REQUEST, generator=seeded()).cines, pipe(REQUEST, generator=seeded()).cines)


def test_phenotypes_are_sampled_under_sequential_offload(pipe):
    offloaded = tiny_pipeline()
    offloaded.enable_sequential_cpu_offload(device="cpu")
    expected = pipe.sample_phenotypes(REQUEST, generator=seeded())
    pd.testing.assert_frame_equal(offloaded.sample_phenotypes(REQUEST, generator=seeded()), expected)


def test_settings_and_components_can_be_given_when_loading(checkpoint):
    scheduler = CPGGDDPMScheduler()
    loaded = CPGGPipeline.from_pretrained(checkpoint, guidance_scale=1.5, scheduler=scheduler)
    assert loaded.config.guidance_scale == 1.5
    assert loaded.scheduler is scheduler
    assert loaded.components.keys() == {"phenotype_vae", "mar", "vae", "scheduler"}


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_other_schedulers_take_the_noise_estimate(scheduler_class, subjects, tmp_path):
    pipe = tiny_pipeline()
    original = pipe(subjects[:2], generator=seeded(), output_type="latent").cines
    pipe.set_scheduler(scheduler_class)
    assert isinstance(pipe.scheduler, scheduler_class)
    assert pipe.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    other = pipe(subjects[:2], generator=seeded(), num_inference_steps=8, output_type="latent").cines
    assert torch.isfinite(other).all()
    assert not torch.equal(other, original)
    pipe.save_pretrained(tmp_path / "saved")
    loaded = CPGGPipeline.from_pretrained(tmp_path / "saved")
    again = loaded(subjects[:2], generator=seeded(), num_inference_steps=8, output_type="latent").cines
    assert torch.equal(again, other)
    pipe.set_scheduler(CPGGDDPMScheduler)
    assert torch.equal(pipe(subjects[:2], generator=seeded(), output_type="latent").cines, original)


def test_a_flow_matching_head_takes_schedulers_of_flows(subjects, tmp_path):
    components = tiny_components()
    settings = {**components["mar"].config.to_dict(), "head_type": "flow_matching"}
    components["mar"] = CPGGMARModel(CPGGMARConfig(**settings)).eval()
    with pytest.raises(ValueError, match="CPGGDDPMScheduler removes noise, but the MAR's head has the type 'flow_"):
        CPGGPipeline(**components)
    components["scheduler"] = FlowMatchEulerDiscreteScheduler()
    pipe = CPGGPipeline(**components, num_decoding_steps=3, num_inference_steps=8, micro_batch_size=2)
    pipe.set_progress_bar_config(disable=True)

    def draw(pipe, rows, seeds):
        generators = [seeded(seed) for seed in seeds]
        return pipe(subjects[rows], generator=generators, guidance_scale=2.0, output_type="latent").cines

    three = draw(pipe, slice(3), (0, 1, 2))
    assert torch.equal(draw(pipe, slice(1, 2), (1,))[0], three[1])
    pipe.save_pretrained(tmp_path)
    assert torch.equal(draw(CPGGPipeline.from_pretrained(tmp_path), slice(3), (0, 1, 2)), three)
    pipe.set_scheduler(FlowMatchHeunDiscreteScheduler)
    assert not torch.equal(draw(pipe, slice(1), (0,))[0], three[0])
    with pytest.raises(ValueError, match="DDIMScheduler removes noise"):
        pipe.set_scheduler(DDIMScheduler)
    assert isinstance(pipe.scheduler, FlowMatchHeunDiscreteScheduler)


def test_half_precision(subjects):
    pipe = tiny_pipeline()
    pipe.mar.to(torch.bfloat16)
    pipe.vae.to(torch.bfloat16)
    cines = pipe(subjects[:2], generator=seeded()).cines
    assert cines.dtype == np.float32
    assert np.isfinite(cines).all()


def test_models_are_offloaded_in_the_order_they_work_in(subjects):
    pipe = tiny_pipeline()
    order = []
    hooked = {"mar": pipe.mar, "vae": pipe.vae.decoder}
    for name, module in hooked.items():
        module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    draw = pipe.phenotype_vae.sample_conditional
    pipe.phenotype_vae.sample_conditional = lambda *args, **kwargs: (
        order.append("phenotype_vae"),
        draw(*args, **kwargs),
    )[1]
    pipe(REQUEST, generator=seeded())
    assert "->".join(dict.fromkeys(order)) == pipe.model_cpu_offload_seq
    assert pipe.model_cpu_offload_seq.split("->") == [name for name in tiny_components() if name != "scheduler"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phenotypes": {"LVEFF": 30.0}}, "did you mean 'LVEF'"),
        ({"phenotypes": {"LVEF": 0.3}}, "multiply by 100"),
        ({"phenotypes": {"LVEDV": -120.0}}, "LVEDV"),
        ({"phenotypes": {"LVEDV": 100.0, "LVESV": 150.0}}, "LVEDV must be above LVESV"),
        ({"phenotypes": {"LVEDV": 150.0, "LVESV": 60.0, "LVEF": 30.0}}, "contradict each other"),
        ({"phenotypes": np.zeros((2, 81))}, "82"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, given 0"),
        ({"num_samples": 1.5}, "num_samples must be a whole number of at least 1, given 1.5"),
        ({"num_samples": 2, "generator": [torch.Generator()]}, "list of 2 generators, one per sample, given 1"),
        (
            {"generator": 0},
            r"must be a torch.Generator or a list of them, given 0; use torch.Generator\(\)",
        ),
        ({"generator": (torch.Generator(),)}, r"must be a torch.Generator or a list of them, given \("),
        ({"generator": [3]}, "must be a torch.Generator or a list of them, given 3"),
        ({"output_type": "gif"}, "output_type must be one of np, pt, pil, latent, given 'gif'"),
        ({"num_decoding_steps": 41}, "num_decoding_steps must lie between 1 and 40"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise"),
        (
            {"latents": torch.zeros(1, 4, 10, 6, 5)},
            r"latents must have shape \(1, 4, 10, 6, 6\), given \(1, 4, 10, 6, 5\)",
        ),
    ],
)
def test_bad_requests_say_what_is_wrong(pipe, arguments, message):
    with pytest.raises((PhenotypeError, ValueError), match=message):
        pipe(**arguments)


def test_components_must_belong_together():
    components = tiny_components()
    with pytest.raises(TypeError, match="vae must be of the class AutoencoderKLCPGG, given CPGGMARModel"):
        CPGGPipeline(**{**components, "vae": components["mar"]})
    first, *others = components["phenotype_vae"].config.phenotype_mean
    foreign = CPGGPhenotypeVAE.from_config(components["phenotype_vae"].config, phenotype_mean=[first + 1.0, *others])
    with pytest.raises(ValueError, match="phenotype_mean of LVEDV"):
        CPGGPipeline(**{**components, "phenotype_vae": foreign})
    vae = AutoencoderKLCPGG.from_config(components["vae"].config, patch_size=(5, 4, 4))
    with pytest.raises(ValueError, match=r"mar generates latents of \(4, 10, 6, 6\), vae decodes \(4, 10, 12, 12\)"):
        CPGGPipeline(**{**components, "vae": vae})


@pytest.mark.parametrize("name", ["num_decoding_steps", "num_inference_steps"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_numbers_of_steps_are_positive_integers(pipe, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, given {value}"):
        pipe(REQUEST, **{name: value})


def test_a_pipelines_default_guidance_is_a_number_and_its_sizes_are_positive():
    with pytest.raises(ValueError, match="default guidance_scale must be a number"):
        tiny_pipeline(guidance_scale=Guidance())
    with pytest.raises(ValueError, match="pixel_spacing_mm must be a positive number, given 0"):
        tiny_pipeline(pixel_spacing_mm=0)
    for size in (0, 0.5, 2.5):
        with pytest.raises(ValueError, match=f"micro_batch_size must be a positive integer, given {size}"):
            tiny_pipeline(micro_batch_size=size)


def test_the_settings_of_a_call_can_be_read_and_given_back(subjects):
    pipe = tiny_pipeline(temperature=0.5)
    settings = pipe.generation_settings(guidance_scale=0.0)
    assert asdict(settings) == {
        "guidance_scale": 0.0, "temperature": 0.5, "num_decoding_steps": 3, "num_inference_steps": 4,
    }  # fmt: skip
    expected = pipe(subjects[:1], guidance_scale=0.0, generator=seeded(), output_type="latent").cines
    assert torch.equal(pipe(subjects[:1], generator=seeded(), output_type="latent", **vars(settings)).cines, expected)
    pipe.set_scheduler(DDIMScheduler)
    assert pipe.generation_settings().temperature == 1.0
    with pytest.raises(ValueError, match=r"DDIMScheduler has no temperature, given 0\.5"):
        pipe(subjects[:1], temperature=0.5)


@pytest.mark.parametrize(
    "settings",
    [
        *({"guidance_scale": value} for value in (float("nan"), float("inf"), -1.0)),
        *({"temperature": value} for value in (-0.5, "1", float("inf"))),
    ],
)
def test_settings_that_would_give_no_picture_are_refused(pipe, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be a positive number or 0"):
        pipe(REQUEST, **settings)


def _truncate(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _only_a_pickle(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def _only_a_pickle_of_the_mar(folder):
    path = folder / "mar" / "model.safetensors"
    torch.save(load_file(path), folder / "mar" / "pytorch_model.bin")
    path.unlink()


def _drop_a_tensor(folder):
    path = folder / "mar" / "model.safetensors"
    tensors = load_file(path)
    del tensors["mask_token"]
    save_file(tensors, path, metadata={"format": "pt"})


def _damage_a_config(folder):
    (folder / "mar" / "config.json").write_text('{"num_pheno')


def _change_a_width(folder):
    path = folder / "mar" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "head_width": 24}))


def _change_index(folder, **settings):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def _foreign(folder):
    _change_index(folder, _class_name="StableDiffusionPipeline")


def _foreign_vae(folder):
    _change_index(folder, vae=["diffusers", "AutoencoderKL"])


def _setting_without_sense(folder):
    _change_index(folder, guidance_scale="strong")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "diffusion_pytorch_model.safetensors is damaged"),
        (_only_a_pickle, "diffusion_pytorch_model.bin is a pickle"),
        (_only_a_pickle_of_the_mar, "pytorch_model.bin is a pickle"),
        (_drop_a_tensor, "lacks 1 tensors .*'mask_token'"),
        (_damage_a_config, "config.json is missing or damaged"),
        (_change_a_width, "of the same checkpoint"),
        (_foreign, "describes StableDiffusionPipeline, not CPGGPipeline"),
        (_foreign_vae, "names AutoencoderKL for vae, expected AutoencoderKLCPGG"),
        (
            _setting_without_sense,
            "guidance_scale must be a positive number or 0, or a Guidance object, given 'strong'",
        ),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "scheduler_config.json is missing"),
        (lambda folder: shutil.rmtree(folder / "vae"), "lacks the component vae"),
        (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json"),
        (shutil.rmtree, "neither a folder nor the name of a Hub repository"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_gives_one_sentence(checkpoint, tmp_path, damage, message):
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        CPGGPipeline.from_pretrained(folder)
    assert "\n" not in str(caught.value)
