"""World models as other libraries want them.

``BeliefWrapper`` and ``BeliefVectorWrapper`` (Gymnasium) and ``DreamVectorEnv`` are here; ``agents.adapters.stable_baselines`` and
``agents.adapters.torch_rl`` need the packages of the extras that are named so.
"""

from agents.adapters.beliefs import BeliefVectorWrapper, BeliefWrapper

__all__ = ["BeliefVectorWrapper", "BeliefWrapper"]
