import torch
from gymnasium import spaces
from small import model, shaken, stream

from worldmodel import objectives
from worldmodel.data import Spec
from worldmodel.decoders import VectorDecoderConfig
from worldmodel.objectives import ReconstructionConfig

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
