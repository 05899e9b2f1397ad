import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import encoders
from worldmodel.data import Spec
from worldmodel.encoders import PatchEncoderConfig

SPEC = Spec.from_spaces(
    spaces.Dict(
        {"camera": spaces.Box(0, 255, (16, 16, 3), np.uint8), "depth": spaces.Box(0, 255, (16, 16, 1), np.uint8)}
    ),
    spaces.Discrete(2),
)


def encoder(**options):
    torch.manual_seed(0)
    return encoders.make("patches", options={"patch": 4, "units": 8, "layers": 2, "heads": 2} | options, spec=SPEC)


def images(*batch):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(0, 256, (*batch, *entry.shape), dtype=torch.uint8, generator=generator)
        for name, entry in SPEC.observation.items()
    }


def test_patches_are_squares_of_all_images_row_by_row():
    one, seen = encoder(), images(2, 3)
    patches = one.cut(seen)
    assert patches.shape == (2, 3, 16, 4 * 4 * 4)
    for place in range(16):
        row, column = 4 * (place // 4), 4 * (place % 4)
        parts = [seen[name][1, 2, row : row + 4, column : column + 4] for name in ("camera", "depth")]
        expected = torch.cat(parts, dim=-1).float() / 255 - 0.5
        torch.testing.assert_close(patches[1, 2, place].view(4, 4, 4), expected)


def test_the_embedding_is_the_mean_of_all_tokens_of_each_step():
    one, seen = encoder(), images(2, 3)
    tokens = one.tokens(seen)
    assert one.patches == (16, 8, 4) and tokens.shape == (2, 3, 16, 8)
    torch.testing.assert_close(one(seen), tokens.mean(2))
    alone = one({name: value[1:, 2] for name, value in seen.items()})
    torch.testing.assert_close(one(seen)[1, 2], alone[0])


def test_what_is_not_kept_is_not_seen():
    one, seen = encoder(), images(2, 3)
    kept = torch.tensor([3, 0, 10]).expand(2, 3, 3)
    other = {name: value.clone() for name, value in seen.items()}
    other["camera"][:, :, :4, 4:12] = 0  # patches 1 and 2
    assert torch.equal(one.tokens(seen, kept), one.tokens(other, kept))
    assert not torch.equal(one.tokens(seen)[:, :, [3, 0, 10]], one.tokens(other)[:, :, [3, 0, 10]])
    everything = torch.arange(16).expand(2, 3, 16)
    assert torch.equal(one.tokens(seen, everything), one.tokens(seen))


def test_a_patch_has_a_place():
    one, seen = encoder(), images(1, 1)
    swapped = {name: value.roll(4, dims=3) for name, value in seen.items()}
    assert not torch.allclose(one(seen), one(swapped), atol=1e-4)


def test_patches_that_do_not_tile_the_images_are_refused():
    with pytest.raises(
        ValueError, match="Patches of side 5 do not tile images of side 16: give a patch that divides 16"
    ):
        encoder(patch=5)
    assert PatchEncoderConfig().patch == 8
