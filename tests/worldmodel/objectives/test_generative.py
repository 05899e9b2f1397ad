import pytest
import torch
from gymnasium import spaces
from small import model, shaken, stream

from worldmodel import encoders, objectives
from worldmodel.data import Spec, Steps
from worldmodel.decoders import ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig
from worldmodel.encoders import ConvolutionalEncoderConfig, SeveralEncoderConfig, VectorEncoderConfig
from worldmodel.objectives import ReconstructionConfig
from worldmodel.scene import Scene

SPEC = Spec.from_spaces(
    spaces.Dict({"pose": spaces.Box(-1, 1, (3,)), "touch": spaces.Discrete(2)}), spaces.Box(-1, 1, (2,))
)


def reconstruction(**options):
    torch.manual_seed(0)
    config = ReconstructionConfig(decoder=VectorDecoderConfig(units=8, layers=2), **options)
    return shaken(objectives.make(config, embed_dim=8, feature_dim=16, spec=SPEC))


def symlog(x: float) -> float:
    return torch.tensor(x).sign().item() * torch.log1p(torch.tensor(abs(x))).item()


def test_it_is_the_squared_error_in_symlog_space_summed_over_all_entries():
    world, steps = model(SPEC), stream(SPEC)
    steps.observation["pose"] *= 30
    one, scene = reconstruction(weight=0.7), world.scene(steps)
    features = scene.features("filtered")
    errors = []
    for b in range(6):
        for t in range(5):
            predicted = one.decoder.network(features[b, t])
            entries = [*steps.observation["pose"][b, t].tolist(), *steps.observation["touch"][b, t].tolist()]
            errors.append(sum((p - symlog(x)) ** 2 for p, x in zip(predicted, entries, strict=True)))
    expected = 0.7 * torch.stack(errors).mean()
    torch.testing.assert_close(one(scene).losses["reconstruction"], expected, rtol=1e-4, atol=1e-4)


def test_what_is_decoded_is_named_and_shaped_as_the_observation():
    one = reconstruction()
    decoded = one.decoder(torch.randn(4, 7, 16))
    assert {name: value.shape for name, value in decoded.items()} == {"pose": (4, 7, 3), "touch": (4, 7, 2)}
    features = torch.randn(5, 16)
    own = one.decoder(features)
    assert one.decoder.loss(features, own).max() < 1e-8, "its own prediction is without error"


def test_it_trains_encoder_and_decoder():
    world, one = model(SPEC), reconstruction()
    one(world.scene(stream(SPEC))).losses["reconstruction"].backward()
    assert all(p.grad.any() for p in one.parameters())
    assert all(p.grad is not None and p.grad.any() for p in world.encoder.parameters())


PICTURES = Spec.from_spaces(
    spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 1), "uint8"), "pose": spaces.Box(-1, 1, (4,))}),
    spaces.Box(-1, 1, (2,)),
)
SMALL = SeveralDecoderConfig(ImageDecoderConfig(depth=2, kernel=3, units=8), VectorDecoderConfig(units=8, layers=1))


def pictures() -> Steps:
    one = stream(PICTURES)
    camera = torch.randint(0, 256, (6, 5, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return one._replace(observation=one.observation | {"camera": camera})


def seeing(name, **options):
    """An encoder of pictures and vectors, and the objective behind it."""
    torch.manual_seed(0)
    config = SeveralEncoderConfig(ConvolutionalEncoderConfig(depth=1), VectorEncoderConfig(units=8))
    encoder = shaken(encoders.make(config, spec=PICTURES))
    options = {"decoder": SMALL} | options
    return encoder, shaken(objectives.make(name, spec=PICTURES, embed_dim=encoder.embed_dim, options=options), size=0.1)


def test_denoising_gives_back_what_was_there_before_the_noise():
    encoder, objective = seeing("denoising", weight=0.5)
    steps = pictures()
    torch.manual_seed(3)
    loss = objective(Scene(encoder, None, steps)).losses["denoising"]
    torch.manual_seed(3)
    (noisy,) = objective.views(steps)
    assert all(not torch.equal(value.float(), steps.observation[name].float()) for name, value in noisy.items())
    expected = 0.5 * objective.decoder.loss(encoder(noisy), steps.observation).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("each_step", [True, False])
@pytest.mark.parametrize("hide", ["patches", "block"])
def test_inpainting_counts_what_is_hidden_alone_and_hides_it(hide, each_step):
    encoder, objective = seeing("inpainting", hide=hide, patch=4, share=0.25, weight=0.5, each_step=each_step)
    steps = pictures()
    torch.manual_seed(3)
    loss = objective(Scene(encoder, None, steps)).losses["inpainting"]
    torch.manual_seed(3)
    hidden = objective.hidden(steps.observation)
    assert (hidden["camera"].flatten(2).sum(2) == 16).all() and (hidden["pose"].sum(2) == 1).all()
    assert {mask.shape[1] for mask in hidden.values()} == {5 if each_step else 1}
    hidden = {name: mask.expand(6, 5, *mask.shape[2:]) for name, mask in hidden.items()}
    total = 0.0
    for b in range(6):
        for t in range(5):
            seen = {}
            for name, blank in (("camera", 128), ("pose", 0)):
                seen[name] = steps.observation[name][b, t].clone()
                seen[name][hidden[name][b, t].expand_as(seen[name])] = blank
            embedding = encoder({name: value.unsqueeze(0) for name, value in seen.items()})
            guessed = {name: value[0] for name, value in objective.decoder(embedding).items()}
            there = hidden["camera"][b, t]
            total += ((guessed["camera"][there] - steps.observation["camera"][b, t][there]) / 255).square().sum()
            there = hidden["pose"][b, t]
            total += sum(
                (symlog(g.item()) - symlog(x.item())) ** 2
                for g, x in zip(guessed["pose"][there], steps.observation["pose"][b, t][there], strict=True)
            )
    torch.testing.assert_close(loss, 0.5 * total / 30, rtol=1e-3, atol=1e-4)


def test_the_variational_loss_is_the_negative_evidence_lower_bound():
    encoder, objective = seeing("variational", dim=3, beta=2.5, weight=0.5)
    steps = pictures()
    torch.manual_seed(3)
    losses = objective(Scene(encoder, None, steps)).losses
    torch.manual_seed(3)
    mean, log_variance = objective.posterior(encoder(steps.observation)).chunk(2, dim=-1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(-1)
    sample = mean + posterior.stddev * torch.randn(6, 5, 3)
    torch.testing.assert_close(losses["variational_kl"], 0.5 * 2.5 * divergence.mean())
    expected = 0.5 * objective.painter.loss(sample, steps.observation).mean()
    torch.testing.assert_close(losses["variational"], expected)
    torch.testing.assert_close(objective.variables(encoder(steps.observation)), mean)
    _, free = seeing("variational", dim=3, beta=2.5, free_nats=1e3)
    assert free(Scene(encoder, None, steps)).losses["variational_kl"] == 2.5e3


def test_a_decoder_that_knows_nothing_of_its_inputs_is_refused():
    with pytest.raises(ValueError, match="add embed_dim=…, or feature_dim=…"):
        objectives.make("reconstruction", spec=SPEC)
