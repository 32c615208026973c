"""The flow-matching head against flows that are known in closed form: tokens of a normal distribution.

Between noise N(0, 1) and tokens N(m, s^2) the velocity at the share t of noise is known, and the flow carries noise x
to m + s x.
"""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)

from cpgg_hf.models.scheduling_cpgg_ddpm import CPGGDDPMScheduler, scheduler_of_head
from cpgg_hf.models.token_diffusion import TokenDiffusionHead, sample_tokens, set_inference_timesteps, token_flow_loss

from .mar_fixtures import latents, phenotypes, tiny_model

MEAN, SD = torch.tensor([1.5, -0.7, 0.0, 3.0]), torch.tensor([0.3, 0.8, 1.0, 0.1])


def exact_velocity(x, share):
    """E[noise - token | x] at this share of noise."""
    variance = (1 - share) ** 2 * SD**2 + share**2
    centred = x - (1 - share) * MEAN
    return (share - (1 - share) * SD**2) / variance * centred - MEAN


class ExactHead(TokenDiffusionHead):
    """Gives the exact velocity, by the parts of the head that decoding calls."""

    def __init__(self):
        super().__init__(4, 4, 4, 1, 1000, "flow_matching")
        with torch.no_grad():
            self.input_projection.weight.copy_(torch.eye(4))
            for parameter in (self.input_projection.bias, *self.condition_projection.parameters()):
                parameter.zero_()

    def embed_timesteps(self, timesteps):
        return (timesteps / 1000).unsqueeze(-1).expand(*timesteps.shape, 4)

    def modulations(self, embedding):
        return [(embedding,)]

    def denoise(self, hidden_states, modulations):
        return exact_velocity(hidden_states, modulations[0][0])


def draw(head, scheduler, num_steps, num_tokens=4000, z=None):
    noise = torch.randn(1, num_tokens, 4, generator=torch.Generator().manual_seed(0))
    set_inference_timesteps("flow_matching", scheduler, num_steps)
    z = torch.zeros(1, num_tokens, 4) if z is None else z.expand(1, num_tokens, 4)
    return noise[0], sample_tokens(head, z, noise, scheduler, [torch.Generator()])[0]


@pytest.mark.parametrize(("num_steps", "tolerance"), [(8, 0.16), (25, 0.055), (400, 0.005)])
def test_eulers_steps_carry_noise_where_the_flow_ends(num_steps, tolerance):
    noise, drawn = draw(ExactHead(), FlowMatchEulerDiscreteScheduler(), num_steps)
    torch.testing.assert_close(drawn.mean(0), MEAN + SD * noise.mean(0), atol=0.1 * tolerance, rtol=0.0)
    torch.testing.assert_close(drawn.std(0), SD * noise.std(0), atol=tolerance, rtol=0.0)


@pytest.mark.parametrize("kind", ["Heun", "DPM-Solver++"])
def test_solvers_of_second_order_need_fewer_steps(kind):
    if kind == "Heun":
        scheduler = FlowMatchHeunDiscreteScheduler()
    else:
        scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    noise, drawn = draw(ExactHead(), scheduler, 25)
    torch.testing.assert_close(drawn.std(0), SD * noise.std(0), atol=0.01, rtol=0.0)


def test_equal_steps_are_taken():
    scheduler = scheduler_of_head("flow_matching")
    set_inference_timesteps("flow_matching", scheduler, 8)
    assert scheduler.sigmas.tolist() == pytest.approx([8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0])


def test_the_exact_velocity_has_the_loss_that_remains():
    """What no estimate can explain: var(noise - token | x) = s^2 / ((1 - t)^2 s^2 + t^2)."""
    generator = torch.Generator().manual_seed(0)
    noise, tokens = torch.randn(2, 100_000, 4, generator=generator)
    tokens = MEAN + SD * tokens
    share = 0.3

    def head(noisy, timesteps, _):
        return exact_velocity(noisy, timesteps.unsqueeze(-1) / 1000)

    head.num_train_timesteps = 1000
    loss = token_flow_loss(head, tokens, torch.zeros(()), noise, torch.full((100_000,), 1000 * share))
    expected = SD**2 / ((1 - share) ** 2 * SD**2 + share**2)
    assert loss.mean().item() == pytest.approx(expected.mean().item(), rel=0.01)


def test_a_trained_head_draws_tokens_of_each_condition():
    torch.manual_seed(0)
    head = TokenDiffusionHead(4, 4, 48, 2, 1000, "flow_matching")
    conditions = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    means, sds = torch.stack([MEAN, -MEAN]), torch.stack([SD, SD.flip(0)])
    optimizer = torch.optim.AdamW(head.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        which = torch.randint(2, (256,))
        tokens = means[which] + sds[which] * torch.randn(256, 4)
        loss = token_flow_loss(head, tokens, conditions[which], torch.randn(256, 4), 1000 * torch.rand(256)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for condition, mean, sd in zip(conditions, means, sds, strict=True):
        _, drawn = draw(head, FlowMatchEulerDiscreteScheduler(), 25, z=condition)
        torch.testing.assert_close(drawn.mean(0), mean, atol=0.08, rtol=0.0)
        torch.testing.assert_close(drawn.std(0), sd, atol=0.08, rtol=0.0)


def test_the_transformer_trains_and_decodes_with_it(tmp_path):
    model = tiny_model(head_type="flow_matching")
    assert model.diffusion_head.output.linear.out_features == model.config.token_dim
    output = model(latents(2), phenotypes(2), generator=torch.Generator().manual_seed(0))
    assert output.loss.item() == output.loss_mse.item()
    assert output.loss_vlb is None
    output.loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "diffusion_head" in name)

    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    drawn = [
        one.generate_latents(
            phenotypes(2), FlowMatchEulerDiscreteScheduler(), 4, 8, 2.0,
            generators=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
        )
        for one in (model, loaded)
    ]  # fmt: skip
    assert torch.equal(*drawn)
    assert drawn[0].isfinite().all()


def test_schedulers_of_the_other_kind_are_refused():
    flow, diffusion = tiny_model(head_type="flow_matching"), tiny_model()
    leftover = FlowMatchEulerDiscreteScheduler.from_config(CPGGDDPMScheduler().config)
    for model, scheduler, message in (
        (flow, CPGGDDPMScheduler(), "CPGGDDPMScheduler removes noise, but .* use FlowMatchEulerDiscreteScheduler"),
        (flow, DDIMScheduler(), "DDIMScheduler removes noise"),
        (diffusion, FlowMatchEulerDiscreteScheduler(), "follows a flow, but .* 'diffusion'; use CPGGDDPMScheduler"),
        (diffusion, leftover, "follows a flow"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate_latents(phenotypes(1), scheduler, 2, 2)
