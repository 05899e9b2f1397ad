import dataclasses

import gymnasium
import pytest
import torch
from gymnasium import spaces
from tiny import tiny_recipe

import agents
from worldmodel.data import Replay, Spec, Steps
from worldmodel.registry import config_from_dict, config_to_dict

WALKER = Spec.from_spaces(spaces.Box(-1, 1, (24,)), spaces.Box(-1, 1, (6,)))


class Tasks:
    """As much of a vector environment as an agent is made from."""

    def __init__(self, observation: spaces.Space, action: spaces.Space, **attributes):
        self.single_observation_space, self.single_action_space = observation, action
        self.__dict__ |= attributes


@pytest.mark.parametrize("size", ["1m", "5m", "19m", "48m", "317m"])
def test_sizes_have_nearly_the_parameters_of_their_names(size):
    with torch.device("meta"):  # counted without being allocated
        agent = agents.Agent(agents.recipe("tdmpc2", size, terminates=False).agent, WALKER, 500)
    learned = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    assert learned / 1e6 == pytest.approx(float(size.removesuffix("m")), rel=0.25)


# Counted in R2-Dreamer's public code, its modes `dreamer` and `r2dreamer`, on 24 numbers and on images of 64 × 64.
PUBLIC_PARAMETERS = {
    "12m": ((9_738_019, 10_494_158), (9_599_243, 11_843_595)),
    "25m": ((21_782_947, 23_489_326), (21_476_491, 26_529_931)),
    "50m": ((38_612_003, 41_650_062), (38_072_331, 47_059_467)),
    "100m": ((86_622_499, 93_468_238), (85_419_787, 105_648_139)),
    "200m": ((153_769_507, 165_948_686), (151_641_611, 187_609_611)),
}


@pytest.mark.parametrize("size", PUBLIC_PARAMETERS)
def test_dreamers_of_every_size_have_as_many_parameters_as_the_public_code(size):
    images = spaces.Dict(image=spaces.Box(0, 255, (64, 64, 3), "uint8"))
    pictured = Spec.from_spaces(images, spaces.Box(-1, 1, (6,)))
    for name, expected in zip(("dreamerv3", "r2dreamer"), PUBLIC_PARAMETERS[size], strict=True):
        for spec, count in zip((WALKER, pictured), expected, strict=True):
            with torch.device("meta"):
                agent = agents.Agent(agents.recipe(name, size, terminates=True).agent, spec, 500)
            assert sum(p.numel() for p in agent.parameters() if p.requires_grad) == count


def test_the_published_numbers_are_the_defaults():
    recipe = agents.recipe("tdmpc2")
    behaviour, planner = recipe.agent.behaviour, recipe.agent.behaviour.planner
    assert recipe.size == "5m"
    assert (recipe.batch_size, recipe.batch_length, recipe.updates_per_decision) == (256, 4, 1.0)
    assert (planner.samples, planner.elites, planner.policy_candidates, planner.horizon) == (512, 64, 24, 3)
    assert (behaviour.critics, behaviour.units, behaviour.critic_bins.bins) == (5, 512, 101)
    assert recipe.optimiser.learning_rate == 3e-4
    assert [group.learning_rate_scale for group in recipe.optimiser.groups] == [0.3, 1.0]
    assert recipe.resolved_random_decisions(500) == 2500
    assert recipe.resolved_random_decisions(100) == recipe.resolved_random_decisions(None) == 1000


@pytest.mark.parametrize(
    ("name", "size", "observation", "task", "ratio"),
    [
        ("dreamerv3", "1m", spaces.Box(-1, 1, (3,)), "dmc/walker-walk", 1024),
        ("dreamerv3", "1m", spaces.Box(0, 255, (64, 64, 3), "uint8"), "dmc/walker-walk", 512),
        ("r2dreamer", "1m", spaces.Box(0, 255, (64, 64, 3), "uint8"), "ale/Pong", 256),
        ("dreamerv3", "12m", spaces.Box(-1, 1, (3,)), "dmc/walker-walk", 512),
        ("planet", "1m", spaces.Box(0, 255, (64, 64, 3), "uint8"), "dmc/walker-walk", 500),
    ],
)
def test_the_train_ratio_is_that_of_what_is_seen(name, size, observation, task, ratio):
    tasks = Tasks(observation, spaces.Box(-1, 1, (2,)), task=task)
    assert agents.make(name, tasks, size=size).recipe.train_ratio == ratio
    assert agents.make(name, tasks, size=size, train_ratio=128.0).recipe.train_ratio == 128


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda tasks: agents.make("tdmpc", tasks), "no recipe named 'tdmpc': did you mean 'tdmpc2'"),
        (lambda tasks: agents.make("tdmpc2", tasks, size="6m"), "no size '6m': choose from 1m, 5m, 19m, 48m, 317m"),
        (lambda tasks: agents.make("tdmpc2", tasks, batchsize=3), "'batchsize': did you mean 'batch_size'"),
        (lambda tasks: agents.make("tdmpc2", tasks, batch_length=1), "batch_length ≥ 2.*: got 256, 1"),
        (lambda tasks: agents.make(tiny_recipe(), tasks, size="5m"), "has its size already, 1m"),
        (lambda tasks: agents.make("tdmpc2", "Pendulum-v1"), "made for a vector environment, not for str"),
    ],
)
def test_wrong_names_and_numbers_are_answered_in_a_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call(Tasks(spaces.Box(-1, 1, (3,)), spaces.Discrete(2)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (spaces.Box(-1, 1, (3,)), spaces.MultiBinary(3), "MultiBinary.*accepted are Box"),
        (spaces.Text(5), spaces.Discrete(2), "'text' is a text of 3 words at most: add --image-encoder convolutional"),
        (spaces.Box(0, 255, (8, 8, 3), "uint8"), spaces.Discrete(2), "'image' is an image of shape"),
    ],
)
def test_spaces_that_cannot_be_read_are_named(observation, action, words):
    with pytest.raises(ValueError, match=words):
        agents.make("tdmpc2", Tasks(observation, action), size="1m")


SPACES = {
    "box": (spaces.Box(-1, 1, (3,)), spaces.Box(-2, 5, (2, 2)), 3, 4),
    "discrete": (spaces.Discrete(4), spaces.Discrete(3, start=1), 4, 3),
    "multidiscrete": (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 4]), 5, 6),
    "dict": (
        spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Discrete(3), "c": spaces.MultiBinary(2)}),
        spaces.Discrete(2), 7, 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_an_agent_of_any_spaces_acts_as_its_environment_accepts(name):
    observation, action, observed, acted = SPACES[name]
    tasks = Tasks(observation, action)
    agent = agents.make(tiny_recipe(), tasks).eval()
    assert sum(entry.shape[0] for entry in agent.spec.observation.values()) == observed
    batched = gymnasium.vector.utils.batch_space(observation, 3)
    seen = agent.spec.observation_arrays(batched.sample())
    for explore in (False, True):
        chosen, _ = agent.act(seen, torch.ones(3, dtype=torch.bool), agent.initial(3), explore=explore)
        assert chosen.shape == (3, acted)
        assert all(action.contains(one) for one in agent.spec.action.to_environment(chosen))


def test_a_task_that_never_terminates_learns_no_continuation():
    box = spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (1,))
    assert agents.make("tdmpc2", Tasks(*box, terminates=False), size="1m").model.continuation is None
    assert agents.make("tdmpc2", Tasks(*box, terminates=True), size="1m").model.continuation is not None
    assert agents.make("tdmpc2", Tasks(*box), size="1m").model.continuation is not None


def test_the_discount_follows_from_the_episode_length_in_decisions():
    box = spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (1,))
    discounts = [
        agents.make(tiny_recipe(), Tasks(*box, episode_length=length)).behaviour.discount
        for length in (5, 500, 100_000, None)
    ]
    assert discounts == pytest.approx([0.95, 0.99, 0.995, 0.995])


def test_a_recipe_written_down_is_read_back_the_same():
    recipe = dataclasses.replace(agents.recipe("tdmpc2", "19m", terminates=False), batch_size=7)
    assert config_from_dict(agents.Recipe, config_to_dict(recipe)) == recipe


def test_tdmpc2_learns_from_an_ending_at_every_position_of_a_sequence():
    recipe = agents.recipe("tdmpc2", "1m")
    spec = Spec.from_spaces(gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2))
    replay = Replay(spec, 200)
    for step in range(100):  # episodes of five steps, each ending in a terminal one
        first, last = torch.tensor([step % 5 == 0]), torch.tensor([step % 5 == 4])
        action = torch.eye(2)[step % 2][None]
        replay.add(Steps({"state": torch.zeros(1, 2)}, torch.zeros(1), first, last, last, action), [0])
    steps, _ = replay.sample(64, recipe.batch_length, across_episodes=recipe.across_episodes)
    assert steps.is_terminal[:, 1:].any(0).all()


def test_dreamers_numbers_are_the_papers():
    recipe = agents.recipe("dreamerv3")
    model, behaviour, optimiser = recipe.agent.model, recipe.agent.behaviour, recipe.optimiser
    assert (recipe.size, recipe.batch_size, recipe.batch_length, recipe.train_ratio) == ("12m", 16, 64, 512.0)
    assert (model.dynamics.deterministic, model.dynamics.hidden, model.dynamics.classes) == (2048, 256, 16)
    assert (model.dynamics.free_nats, model.dynamics.dynamics_weight, model.dynamics.representation_weight) == (
        1,
        1,
        0.1,
    )
    assert (model.reward.weight, model.continuation.weight, model.decay, model.learn_on) == (1, 1, 1, "filtered")
    assert (behaviour.horizon, behaviour.discount, behaviour.trace) == (15, 1 - 1 / 333, 0.95)
    assert (behaviour.entropy, behaviour.slow_rate, behaviour.replay_weight) == (3e-4, 0.02, 0.3)
    assert (optimiser.algorithm, optimiser.learning_rate, optimiser.warmup) == ("laprop", 4e-5, 1000)
    assert (optimiser.eps, optimiser.clip, optimiser.adaptive_clip) == (1e-20, None, 0.3)
    assert config_from_dict(agents.Recipe, config_to_dict(recipe)) == recipe


def test_planets_numbers_are_the_papers():
    recipe = agents.recipe("planet")
    model, planner, optimiser = recipe.agent.model, recipe.agent.behaviour.planner, recipe.optimiser
    assert (recipe.batch_size, recipe.batch_length) == (50, 50)
    # A hundred updates for each episode of a thousand steps, every action repeated twice.
    assert recipe.updates_per_decision * 500 == 100
    assert (model.dynamics.deterministic, model.dynamics.stochastic, model.dynamics.hidden) == (200, 30, 200)
    assert (model.dynamics.free_nats, model.dynamics.weight, model.dynamics.least_std) == (3, 1, 0.1)
    assert model.reward.weight == 10
    assert model.objectives[0].decoder.vectors.deviation == 0.1, "which is not the paper's: it has no vectors"
    assert (planner.horizon, planner.iterations, planner.samples, planner.elites) == (12, 10, 1000, 100)
    assert planner.exploration == 0.3
    assert (optimiser.algorithm, optimiser.learning_rate, optimiser.eps, optimiser.clip) == ("adam", 1e-3, 1e-4, 1000)
    assert recipe.resolved_random_decisions(500) == 2500, "five episodes"
    assert config_from_dict(agents.Recipe, config_to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("name", "objective"),
    [("r2dreamer", "BarlowConfig"), ("dreamer-infonce", "InfoNCEConfig"), ("dreamerpro", "PrototypesConfig")],
)
def test_a_decoder_free_recipe_is_dreamers_with_another_objective(name, objective):
    one, other = agents.recipe(name, "1m"), agents.recipe("dreamerv3", "1m")
    (own,) = one.agent.model.objectives
    assert type(own).__name__ == objective
    model = dataclasses.replace(one.agent.model, objectives=other.agent.model.objectives)
    assert dataclasses.replace(one, name="dreamerv3", agent=dataclasses.replace(one.agent, model=model)) == other


def test_an_objective_takes_options_behind_commas():
    found = agents.parts.objectives_named(["vicreg,between=steps,within=episode,invariance=10:0.5", "cpc,horizon=3"])
    assert (found[0].between, found[0].within, found[0].invariance, found[0].weight) == ("steps", "episode", 10.0, 0.5)
    assert found[1].horizon == 3 and isinstance(found[1].horizon, int)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpc,negative=episode", "no option of CPCConfig named 'negative': did you mean 'negatives'"),
        ("cpc,negatives=episod", "negatives='episod' is not accepted: give batch or episode or time"),
        ("cpc,horizon=far", "horizon='far' is not accepted: give int"),
        ("vicreg,projector=8-6", "projector='8-6' is not accepted: give numbers with x between them"),
        ("denoising,decoder=vector", "decoder cannot be given in one word"),
        ("cpc,horizon", "horizon='' is not accepted"),
    ],
)
def test_wrong_options_of_an_objective_are_answered_in_a_sentence(text, words):
    with pytest.raises(ValueError, match=words):
        agents.parts.objectives_named([text])


def test_objectives_are_exchanged_by_name_and_weight():
    recipe = agents.recipe("dreamerv3", "12m")
    assert agents.with_objectives(recipe, ()) == recipe
    chosen = agents.with_objectives(recipe, ["reconstruction:0.25", "barlow", "infonce:2"]).agent.model.objectives
    assert [type(c).__name__ for c in chosen] == ["ReconstructionConfig", "BarlowConfig", "InfoNCEConfig"]
    assert [c.weight for c in chosen] == [0.25, 0.05, 2.0]
    assert chosen[0].decoder == recipe.agent.model.objectives[0].decoder, "what the recipe has keeps its settings"
    with pytest.raises(ValueError, match="no objective named 'barlo': did you mean 'barlow'"):
        agents.with_objectives(recipe, ["barlo"])
    with pytest.raises(ValueError, match="The weight in 'barlow:much' is no number: write barlow:0.5"):
        agents.with_objectives(recipe, ["barlow:much"])
