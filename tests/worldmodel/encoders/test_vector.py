import pytest
import torch
from gymnasium import spaces

from worldmodel import encoders
from worldmodel.data import Spec
from worldmodel.nn import symlog

SPEC = Spec.from_spaces(
    spaces.Dict({"arm": spaces.Box(-1, 1, (3,)), "goal": spaces.Box(-1, 1, (2,)), "door": spaces.Discrete(4)}),
    spaces.Box(-1, 1, (2,)),
)


def observation() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 30 * torch.randn(2, 5, *e.shape, generator=generator) for name, e in SPEC.observation.items()}


@pytest.mark.parametrize("layers", [1, 3])
def test_every_entry_is_fused_by_name_whatever_the_order_it_comes_in(layers):
    encoder = encoders.make("vector", options={"units": 8, "layers": layers}, spec=SPEC)
    seen = observation()
    embedding = encoder(seen)
    assert embedding.shape == (2, 5, encoder.embed_dim) and encoder.embed_dim == 8 and len(encoder.layers) == layers
    assert torch.equal(encoder(dict(reversed(seen.items()))), embedding)
    for name in seen:
        other = encoder(seen | {name: seen[name] + 1})
        assert not torch.allclose(other, embedding), f"{name} does not matter"


def test_symlog_squashes_what_comes_in():
    torch.manual_seed(0)
    squashing = encoders.make("vector", options={"units": 8}, spec=SPEC)
    plain = encoders.make("vector", options={"units": 8, "symlog": False}, spec=SPEC)
    plain.load_state_dict(squashing.state_dict())
    seen = observation()
    assert torch.equal(squashing(seen), plain({name: symlog(value) for name, value in seen.items()}))
    assert not torch.allclose(squashing(seen), plain(seen))


def test_its_weights_start_as_those_of_every_other_part():
    torch.manual_seed(0)
    for layer in encoders.make("vector", options={"units": 200, "layers": 2}, spec=SPEC).layers:
        assert layer.linear.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.linear.bias.any()


def test_an_image_is_refused_in_a_sentence_that_names_it():
    spec = Spec.from_spaces(spaces.Dict({"camera": spaces.Box(0, 255, (64, 64, 3), "uint8")}), spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"'camera' is an image of shape \(64, 64, 3\)") as caught:
        encoders.make("vector", spec=spec)
    assert "\n" not in str(caught.value)
