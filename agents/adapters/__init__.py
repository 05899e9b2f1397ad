"""World models as other libraries want them.

``BeliefWrapper``, ``BeliefVectorWrapper`` and ``DreamVectorEnv`` (Gymnasium) are here; ``agents.adapters.stable_baselines`` and
``agents.adapters.torch_rl`` need the packages of those names, which are extras.
"""

from agents.adapters.beliefs import BeliefVectorWrapper, BeliefWrapper
from agents.adapters.dream import DreamVectorEnv

__all__ = ["BeliefVectorWrapper", "BeliefWrapper", "DreamVectorEnv"]
