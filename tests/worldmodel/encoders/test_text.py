import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import decoders, encoders
from worldmodel.data import Spec
from worldmodel.nn.transformer import positions

SPEC = Spec.from_spaces(spaces.Dict(mission=spaces.Text(40), hint=spaces.Text(12)), spaces.Discrete(2))


def encoder(**options):
    torch.manual_seed(0)
    return encoders.make("text", options={"units": 8, "layers": 2, "heads": 2} | options, spec=SPEC)


def read(missions, hints):
    return SPEC.observation_arrays({"mission": missions, "hint": hints})


def test_each_text_is_the_mean_over_its_words_whatever_lies_behind_them():
    one = encoder()
    assert one.embed_dim == 16
    seen = read(("go to the red ball", "open"), ("left", "go to the red"))
    embedding = one(seen)
    for n, name in enumerate(SPEC.observation):
        for row in range(2):
            numbers = seen[name][row][seen[name][row] > 0].long()
            vectors = one.words(numbers) + positions(len(numbers), 8, torch.device("cpu"))
            expected = one.transformer(vectors.unsqueeze(0))[0].mean(0)
            torch.testing.assert_close(embedding[row, 8 * n : 8 * n + 8], expected, rtol=1e-4, atol=1e-5)


def test_words_and_their_order_matter_and_no_words_are_nothing():
    one = encoder()
    found = one(read(("red ball", "ball red", "blue ball", ""), ("",) * 4))
    assert found.isfinite().all() and not found[3].any() and not found[:, 8:].any()
    assert torch.pdist(found[:3]).min() > 1e-3
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in one.parameters())


def test_batch_and_time_are_kept():
    one = encoder()
    seen = {name: value.view(2, 3, -1) for name, value in read(("go",) * 5 + ("stop",), ("a",) * 6).items()}
    found = one(seen)
    assert (
        found.shape == (2, 3, 16)
        and torch.equal(found[0, 0], found[1, 1])
        and not torch.equal(found[0, 0], found[1, 2])
    )


def test_texts_lie_beside_images_and_vectors():
    mixed = Spec.from_spaces(
        spaces.Dict(
            camera=spaces.Box(0, 255, (8, 8, 1), np.uint8), mission=spaces.Text(9), pose=spaces.Box(-1, 1, (2,))
        ),
        spaces.Discrete(2),
    )
    one = encoders.make("several", spec=mixed)
    assert set(one.parts) == {"images", "vectors", "texts"}
    assert one.embed_dim == sum(part.embed_dim for part in one.parts.values())
    decoder = decoders.make("several", spec=mixed, feature_dim=8, deterministic_dim=0)
    assert set(decoder(torch.randn(3, 8))) == {"camera", "pose"}
    with pytest.raises(ValueError, match="Texts are not decoded, and the observation is nothing else"):
        decoders.make("several", spec=SPEC, feature_dim=8, deterministic_dim=0)


def test_what_is_no_text_is_refused():
    with pytest.raises(ValueError, match="observation 'state' is a vector of 2 numbers"):
        encoders.make("text", spec=Spec.from_spaces(spaces.Box(-1, 1, (2,)), spaces.Discrete(2)))
    with pytest.raises(ValueError, match="is a text of 20 words at most: add --image-encoder"):
        encoders.make("vector", spec=SPEC)
