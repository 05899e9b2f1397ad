import pytest
import torch
from torch import nn

from worldmodel import dynamics


def make(**options):
    torch.manual_seed(0)
    return dynamics.make("simnorm", options={"latent_dim": 24, "units": 8} | options, embed_dim=5, action_dim=2)


def test_every_group_of_every_latent_state_sums_to_one():
    one = make()
    state = one.initial(3)
    states = [state, one.update(state, torch.zeros(3, 2), torch.randn(3, 5), torch.ones(3).bool())]
    states += [one.step(states[-1], torch.randn(3, 2))]
    for (latent,) in states:
        assert (latent >= 0).all()
        torch.testing.assert_close(latent.unflatten(-1, (8, 3)).sum(-2), torch.ones(3, 3))


def test_the_posterior_is_one_layer_and_the_transition_has_its_hidden_ones():
    one = make(layers=3)
    assert [m.out_features for m in one.modules() if isinstance(m, nn.Linear)] == [24, 8, 8, 8, 24]
    assert one.transition[0].linear.in_features == 24 + 2


def test_a_latent_size_that_cannot_be_cut_into_groups_is_refused_with_one_that_can():
    with pytest.raises(ValueError, match=r"latent_dim=30 is not a multiple of it; try 24\.") as caught:
        make(latent_dim=30)
    assert "\n" not in str(caught.value)
