"""The transformer in training: what its loss may and may not depend on, its draws, its gradients, saving."""

import copy

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.token_diffusion import token_diffusion_loss

from .mar_fixtures import latents, phenotypes, tiny_model


@pytest.fixture(scope="module")
def model() -> CPGGMARModel:
    return tiny_model()


@pytest.fixture
def draws(model) -> dict[str, torch.Tensor]:
    """Everything that one step of four samples draws: 28 of 36 tokens are masked."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(4, 36, generator=generator).argsort(1) < 28
    shape = (4, model.config.timesteps_per_token, 28)
    return {
        "mask": mask,
        "drop_condition": torch.tensor([False, True, False, False]),
        "noise": torch.randn(*shape, model.config.token_dim, generator=generator),
        "timesteps": torch.randint(0, 1000, shape, generator=generator),
    }


def test_save_and_load_is_exact(model, draws, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = CPGGMARModel.from_pretrained(tmp_path)
    assert isinstance(loaded.config, CPGGMARConfig)
    with torch.no_grad():
        expected = model(latents(4), phenotypes(4), **draws)
        assert torch.equal(loaded(latents(4), phenotypes(4), **draws).loss, expected.loss)


def test_loads_in_half_precision(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = CPGGMARModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    with torch.no_grad():
        z = loaded(latents(2), phenotypes(2), mask=torch.ones(2, 36), return_loss=False).z
    assert z.dtype == torch.bfloat16
    assert z.isfinite().all()


def test_patchify_order_and_inverse(model):
    cine_latents = latents(2)
    tokens = model.patchify(cine_latents)
    # row 1, column 2 of the 6 x 6 grid, flattened channel first
    assert torch.equal(tokens[0, 8], cine_latents[0, :, :, 2:4, 4:6].flatten())
    assert torch.equal(model.unpatchify(tokens), cine_latents)


@torch.no_grad()
def test_the_transformer_never_sees_masked_tokens(model, draws):
    tokens = model.patchify(latents(4))
    changed = tokens + 10.0 * draws["mask"].unsqueeze(-1)
    z, z_changed = (model(t, phenotypes(4), mask=draws["mask"], return_loss=False).z for t in (tokens, changed))
    assert torch.equal(z, z_changed)
    changed = tokens + 10.0 * ~draws["mask"].unsqueeze(-1)
    assert not torch.equal(z, model(changed, phenotypes(4), mask=draws["mask"], return_loss=False).z)


@torch.no_grad()
def test_the_loss_is_the_mean_over_masked_tokens_only(model, draws):
    output = model(latents(4), phenotypes(4), **draws)
    expected = torch.stack([row.nonzero().flatten() for row in draws["mask"]])
    assert torch.equal(output.positions, expected)
    terms = []
    tokens = model.patchify(latents(4))
    for sample, positions in enumerate(expected):
        for index, position in enumerate(positions):
            for repeat in range(model.config.timesteps_per_token):
                mse, vlb = token_diffusion_loss(
                    model.diffusion_head,
                    tokens[sample, position],
                    output.z[sample, index],
                    draws["noise"][sample, repeat, index],
                    draws["timesteps"][sample, repeat, index],
                )
                terms.append((mse + vlb).item())
    assert output.loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert output.loss.item() == pytest.approx((output.loss_mse + output.loss_vlb).item())


@torch.no_grad()
def test_only_the_wanted_tokens_are_decoded_and_they_are_the_same(model, draws):
    everything = model(
        latents(4),
        phenotypes(4),
        mask=draws["mask"],
        positions=torch.arange(36).expand(4, -1),
        return_loss=False,
    ).z
    masked = model(latents(4), phenotypes(4), mask=draws["mask"], return_loss=False)
    expected = torch.take_along_dim(everything, masked.positions.unsqueeze(-1), dim=1)
    assert torch.allclose(masked.z, expected, atol=1e-5)


@torch.no_grad()
def test_eager_attention_agrees_with_sdpa(model, draws):
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    z, z_eager = (m(latents(4), phenotypes(4), mask=draws["mask"], return_loss=False).z for m in (model, eager))
    assert torch.allclose(z, z_eager, atol=1e-5)


@torch.no_grad()
def test_phenotypes_are_standardised_by_the_saved_scaler(model):
    mean, sd = (torch.tensor(v, dtype=torch.float64) for v in (model.config.phenotype_mean, model.config.phenotype_sd))
    physical = phenotypes(3)
    by_hand = model.condition_projection(((physical - mean) / sd).float())
    assert torch.allclose(model.embed_phenotypes(physical), by_hand, atol=1e-6)
    assert torch.allclose(model.embed_phenotypes(physical.float()), by_hand, atol=1e-3)


@torch.no_grad()
def test_bfloat16_does_not_round_the_phenotypes(model):
    with torch.autocast("cpu", torch.bfloat16):
        embedded = model.embed_phenotypes(phenotypes(3))
    assert torch.equal(embedded, model.embed_phenotypes(phenotypes(3)))


@torch.no_grad()
def test_a_missing_phenotype_is_embedded_not_taken_for_a_value(model):
    complete = phenotypes(2)
    missing = complete.clone()
    missing[0, [3, 50]] = float("nan")
    at_mean = complete.clone()
    at_mean[0, [3, 50]] = torch.tensor(model.config.phenotype_mean, dtype=torch.float64)[[3, 50]]
    learned = model.missing_phenotype_embedding[[3, 50]].sum(0)
    embedded, expected = model.embed_phenotypes(missing), model.embed_phenotypes(at_mean)
    expected[0] += learned
    assert torch.allclose(embedded, expected, atol=1e-6)
    assert learned.norm() > 0.1


@torch.no_grad()
def test_a_dropped_condition_is_the_null_embedding_whatever_the_phenotypes(model):
    rows = phenotypes(2)
    rows[0, 7] = float("nan")
    embedded = model.embed_phenotypes(rows, drop_condition=torch.tensor([True, False]))
    assert torch.equal(embedded[0], model.null_condition_embedding)
    assert torch.equal(embedded[1], model.embed_phenotypes(rows)[1])


def test_conditions_are_dropped_in_training_only():
    model = tiny_model(condition_dropout=1.0, dropout=0.0)
    arguments = {"mask": torch.ones(2, 36), "return_loss": False}
    with torch.no_grad():
        kept = model.eval()(latents(2), phenotypes(2), **arguments).z
        dropped = model.train()(latents(2), phenotypes(2), **arguments).z
        null = model(latents(2), phenotypes(2), drop_condition=torch.ones(2), **arguments).z
    assert torch.equal(dropped, null)
    assert not torch.allclose(dropped, kept)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_every_parameter_takes_part_in_every_step(drop, projection):
    model = tiny_model(condition_projection=projection, dropout=0.0).train()
    rows = phenotypes(4)
    mask = torch.arange(36).expand(4, -1) < 28
    model(latents(4), rows, mask=mask, drop_condition=torch.full((4,), drop)).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    rows[:, 0] = float("nan")
    drop_some = torch.tensor([True, False, False, False])
    model(latents(4), rows, mask=mask, drop_condition=drop_some).loss.backward()
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


def test_gradient_checkpointing_gives_the_same_gradients(draws):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(latents(4), phenotypes(4), **draws).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-7), name


def test_trains_under_bfloat16_autocast(model, draws):
    expected = model(latents(4), phenotypes(4), **draws).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = model(latents(4), phenotypes(4), **draws)
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == pytest.approx(expected.item(), rel=0.05)
    model.zero_grad()
    output.loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_a_few_steps_lower_the_loss(draws):
    model = tiny_model(dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = model(latents(4), phenotypes(4), **draws).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_mask_ratio_follows_the_truncated_normal(model):
    generator = torch.Generator().manual_seed(0)
    masks = [model.draw_mask(3, generator) for _ in range(400)]
    counts = torch.stack([mask.sum(1) for mask in masks]).double()
    assert (counts == counts[:, :1]).all()
    ratios = counts[:, 0] / 36
    assert ratios.min() >= 0.7
    assert ratios.max() == 1.0
    # mean of N(1, 0.25) on [0.7, 1]: 1 - 0.25 (phi(0) - phi(1.2)) / (Phi(0) - Phi(-1.2)) = 0.867; ceil adds about 1/72
    assert ratios.mean().item() == pytest.approx(0.867 + 1 / 72, abs=0.012)
    some = next(mask for mask in masks if not mask.all())
    assert not torch.equal(some[0], some[1])


def test_a_generator_determines_the_whole_step():
    model = tiny_model(dropout=0.0).train()

    def step(seed: int) -> float:
        return model(latents(4), phenotypes(4), generator=torch.Generator().manual_seed(seed)).loss.item()

    assert step(1) == step(1)
    assert step(1) != step(2)


@pytest.mark.parametrize("shape", [(2, 2, 5, 12, 11), (2, 3, 5, 12, 12), (2, 35, 40), (3, 2, 5, 12, 12)])
def test_latents_of_a_wrong_shape_are_refused(model, shape):
    with pytest.raises(ValueError, match=r"latents.*\(?2, 5, 12, 12\)"):
        model(torch.zeros(shape), phenotypes(2))


def test_phenotypes_of_a_wrong_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"\(B, 82\), given \(2, 81\)"):
        model(latents(2), phenotypes(2)[:, :81])


def test_masks_of_unequal_count_are_refused(model):
    mask = torch.zeros(2, 36)
    mask[0, :30] = 1
    mask[1, :29] = 1
    with pytest.raises(ValueError, match=r"\[30, 29\]"):
        model(latents(2), phenotypes(2), mask=mask)


def _another_width(folder):
    adapted(tiny_model(head_width=24)).save_pretrained(folder)


def _fewer_layers(folder):
    adapted(tiny_model(encoder_depth=1)).save_pretrained(folder)


def _more_layers(folder):
    adapted(tiny_model(encoder_depth=3)).save_pretrained(folder)


def _drop_a_tensor(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors[min(tensors)]
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def adapted(model):
    model.add_adapter(LoraConfig(r=2, lora_alpha=0.1, init_lora_weights=False, target_modules="all-linear"))
    return model


@pytest.mark.parametrize("spoil", [_another_width, _fewer_layers, _more_layers, _drop_a_tensor])
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(tmp_path, spoil):
    adapted(tiny_model()).save_pretrained(tmp_path)
    tiny_model().load_adapter(str(tmp_path))
    spoil(tmp_path)
    model = tiny_model(data_policy="phantom")
    names = list(model.state_dict())
    with pytest.raises(ValueError, match=r"does not fit this MAR because \d+ tensors"):
        model.load_adapter(str(tmp_path))
    assert list(model.state_dict()) == names
    assert model.config.data_policy == "phantom"
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), tiny_model().parameters(), strict=True))


@pytest.mark.parametrize("by_config", [False, True])
def test_hidden_states_and_attentions_are_those_of_the_layers(by_config):
    model = tiny_model(attn_implementation="eager")
    seen = []
    for layer in (*model.encoder_layers, *model.decoder_layers):
        layer.register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    options = {"output_hidden_states": True, "output_attentions": True}
    if by_config:
        for name in options:
            setattr(model.config, name, True)
        options = {}
    mask = torch.ones(2, 36)
    mask[:, :12] = 0
    output = model(latents(2), phenotypes(2), mask, return_loss=False, **options)
    assert len(output.hidden_states) == 1 + model.config.num_hidden_layers == 5
    assert torch.equal(output.hidden_states[0], seen[0][0])
    assert all(torch.equal(ours, theirs) for ours, (_, theirs) in zip(output.hidden_states[1:], seen, strict=True))
    assert [tuple(one.shape) for one in output.attentions] == [(2, 4, 15, 15)] * 2 + [(2, 4, 39, 39), (2, 4, 24, 39)]
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(2, 4, 15))


def test_a_tuple_instead_of_an_output(model):
    options = {"mask": torch.ones(2, 36), "return_loss": False}
    output = model(latents(2), phenotypes(2), **options)
    assert output.hidden_states is None
    z, positions = model(latents(2), phenotypes(2), **options, return_dict=False)
    assert torch.equal(z, output.z)
    assert torch.equal(positions, output.positions)
