import pytest
import torch

from worldmodel.randomness import seeded
from worldmodel.visualize.latent_map import principal_components


def test_draws_go_on_as_if_none_had_been_made_and_begin_at_the_seed():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with seeded(7):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(7)
    assert torch.equal(inside, torch.rand(4))


def drawn():
    with seeded(0):
        torch.rand(4)


def mapped():
    principal_components(torch.randn(300, 640))


@pytest.mark.parametrize("draw", [drawn, mapped])
def test_what_is_drawn_on_a_cpu_reseeds_no_gpu(draw, monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", reseeded.append)
    draw()
    assert not reseeded
    torch.manual_seed(0)  # which does
    assert reseeded
