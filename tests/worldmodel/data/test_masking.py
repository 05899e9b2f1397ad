import pytest
import torch

from worldmodel.data.masking import mask_block, mask_like, mask_patches, mask_steps

CPU = torch.device("cpu")


def test_steps_are_hidden_in_stretches_that_make_the_share():
    hidden = mask_steps(500, 12, 0.25, 3, CPU)
    assert hidden.shape == (500, 12) and (hidden.sum(1) == 3).all()  # one stretch of four
    assert torch.equal(hidden.view(500, 4, 3).all(2), hidden.view(500, 4, 3).any(2))
    assert hidden.float().mean(0).tolist() == pytest.approx([0.25] * 12, abs=0.08)
    assert mask_steps(3, 5, 0.01, 1, CPU).sum(1).tolist() == [1, 1, 1], "something is always hidden"
    assert mask_steps(3, 5, 0.5, 2, CPU).shape == (3, 5), "the last stretch may be cut"


def test_patches_are_hidden_whole_and_as_many_in_each_image():
    hidden = mask_patches(200, 16, 4, 0.75, CPU)
    patches = hidden.view(200, 4, 4, 4, 4)
    assert torch.equal(patches.all(4).all(2), patches.any(4).any(2))
    assert (hidden.flatten(1).sum(1) == 12 * 16).all()
    assert len({tuple(row.tolist()) for row in hidden.flatten(1)}) > 150
    with pytest.raises(ValueError, match="Patches of side 5 do not tile an image of side 16: choose a divisor of 16"):
        mask_patches(1, 16, 5, 0.5, CPU)


def test_a_block_is_one_square_anywhere_inside():
    hidden = mask_block(300, 16, 0.25, CPU)
    assert (hidden.flatten(1).sum(1) == 64).all()
    rows, columns = hidden.any(2), hidden.any(1)
    assert (rows.sum(1) == 8).all() and (columns.sum(1) == 8).all()
    tops = rows.float().argmax(1)
    assert set(tops.tolist()) == set(range(9))


def test_of_a_vector_of_one_entry_half_is_hidden_whole():
    one = mask_like(torch.zeros(3, 4, 1), "patches", 0.5, 8, True)
    assert one.all()
    assert not mask_like(torch.zeros(3, 4, 1), "patches", 0.0, 8, True).any()
