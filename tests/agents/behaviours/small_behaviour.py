"""TD-MPC2's behaviour of a few units, whose weights all matter."""

import torch
from small import BINS, CONTINUOUS, shaken

from agents.behaviours import TemporalDifferenceConfig, TemporalDifferencePlanning


def behaviour(spec=CONTINUOUS, **options) -> TemporalDifferencePlanning:
    """On the features of ``small.model``; online and target critics differ."""
    options = {"units": 8, "critics": 3, "critic_bins": BINS, "critic_dropout": 0.0} | options
    torch.manual_seed(0)
    one = TemporalDifferencePlanning(TemporalDifferenceConfig(**options), spec=spec, feature_dim=16, episode_length=50)
    for seed, part in enumerate((one.policy, one.critic, one.target_critic), start=1):
        shaken(part, seed)
    return one
