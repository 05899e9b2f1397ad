"""World models in TorchRL: its losses and collectors work on a belief, or inside a dream.

pip install --editable '.[torchrl]'
"""

from __future__ import annotations

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv

from agents.adapters.beliefs import BeliefVectorWrapper, BeliefWrapper
from agents.adapters.dream import DreamVectorEnv, check_arrays
from worldmodel import Representation

try:
    from torchrl.envs import EnvBase, GymWrapper
except ImportError as error:
    raise ImportError(
        "agents.adapters.torch_rl needs the package torchrl: in the project's folder, pip install --editable '.[torchrl]'."
    ) from error


def belief_environment(
    env: gymnasium.Env | VectorEnv,
    model: Representation,
    *,
    beside: bool = False,
    draw: bool = False,
    **options: object,
) -> EnvBase:
    """One environment or several as a TorchRL environment that observes the features [F] of a world model's belief.

    Args:
        env: with the spaces that the model was trained on, as those of ``envs.make`` and ``envs.make_single`` are.
        model: from ``worldmodel.load``, or the representation of ``load_representation``, on the device where it is to run.
        beside: whether what the environment shows stays beside the features.
        draw: whether what is stochastic in a belief is drawn, as it is in a dream; if not, one history always gives the same.
        options: of ``torchrl.envs.GymWrapper``, such as ``device`` or ``categorical_action_encoding``.

    Raises:
        ValueError: other spaces, naming what differs; NEXT_STEP autoreset, which TorchRL does not take; several environments with
            what they show beside, in SAME_STEP.
    """
    if not isinstance(env, VectorEnv):
        return GymWrapper(BeliefWrapper(env, model, beside=beside, draw=draw), **options)
    wrapped = BeliefVectorWrapper(env, model, beside=beside, draw=draw)
    if wrapped.autoreset_mode is AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"TorchRL takes no environments that reset in the next step, as {env} does: make them with "
            "gymnasium.vector.AutoresetMode.SAME_STEP."
        )
    if beside and wrapped.autoreset_mode is AutoresetMode.SAME_STEP:
        # torchrl.envs.libs.gym.terminal_obs_reader looks for a last observation under one name, and leaves zeros for two.
        raise ValueError(
            "TorchRL loses last observations of several parts where environments reset in the same step: leave out beside, or "
            "make the environments with gymnasium.vector.AutoresetMode.DISABLED."
        )
    return GymWrapper(wrapped, **options)


def dream_environment(dream: DreamVectorEnv, **options: object) -> EnvBase:
    """A dream, one that gives arrays, as a TorchRL environment; ``options`` as for ``belief_environment``.

    What learned in it is shown drawn beliefs, of ``belief_environment(..., draw=True)``.

    Raises:
        ValueError: a dream that gives tensors.
    """
    check_arrays(dream)
    return GymWrapper(dream, **options)
