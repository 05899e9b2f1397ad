"""The vector decoder's loss."""

import math

import pytest
import torch
from gymnasium import spaces

from worldmodel.data import Spec
from worldmodel.decoders import VectorDecoderConfig, decoders

SPEC = Spec.from_spaces(spaces.Dict(a=spaces.Box(-9, 9, (2,)), b=spaces.Box(-9, 9, (1,))), spaces.Box(-1, 1, (1,)))


@pytest.mark.parametrize("deviation", [1.0, 0.1])
def test_the_loss_is_twice_a_gaussians_negative_log_likelihood_in_symlog_space_up_to_a_constant(deviation):
    torch.manual_seed(0)
    decoder = decoders.make(VectorDecoderConfig(units=8, layers=1, deviation=deviation), spec=SPEC, feature_dim=4)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn(parameter.shape))
    features = torch.randn(5, 4)
    seen = {"a": 5 * torch.randn(5, 2), "b": 5 * torch.randn(5, 1)}
    decoded = decoder(features)
    found = decoder.loss(features, seen)
    for n in range(5):
        slow = 0.0
        for name, values in seen.items():
            for value, guess in zip(values[n].tolist(), decoded[name][n].tolist(), strict=True):
                apart = math.copysign(math.log1p(abs(value)), value) - math.copysign(math.log1p(abs(guess)), guess)
                slow += (apart / deviation) ** 2
        assert found[n].item() == pytest.approx(slow, rel=1e-4)


def test_a_deviation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0: got deviation=0"):
        VectorDecoderConfig(deviation=0.0)
