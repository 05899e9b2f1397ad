"""What will run on a GPU mixes no devices there, fetches nothing in an update and nothing but the actions of a decision."""

import fake_gpu
import pytest
from fake_gpu import CHOSEN, SEEN, of_objective, of_pair, of_recipe
from test_combinations import BEHAVIOURS, DYNAMICS

import agents
from worldmodel.objectives import objectives


@pytest.fixture(scope="module")
def crossings():
    with fake_gpu.in_a_process_of_its_own() as pool:
        yield lambda *asked, **options: pool.submit(fake_gpu.crossings, *asked, **options).result()


def assert_stays(found: tuple[list[str], list[str]]) -> None:
    updating, acting = found
    assert not updating
    assert len([line for line in acting if "to ['cpu']" in line]) == 2, (
        "an action for each of two decisions, and no more"
    )


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("name", agents.RECIPES)
def test_a_recipe_stays_on_its_device(name, seen, chosen, crossings):
    assert_stays(crossings(of_recipe, (name, seen, chosen)))


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_stays_on_its_device(name, crossings):
    assert_stays(crossings(of_objective, (name,)))


@pytest.mark.parametrize("discrete", (False, True))
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("kind", DYNAMICS)
def test_every_pair_stays_on_its_device(kind, behaviour, discrete, crossings):
    assert_stays(crossings(of_pair, (kind, behaviour, discrete)))


@pytest.mark.parametrize("discrete", (False, True))
def test_a_dream_of_tensors_stays_on_its_device(discrete):
    with fake_gpu.in_a_process_of_its_own() as pool:
        assert pool.submit(fake_gpu.crossings_in_a_dream, discrete).result() == []


def test_what_leaves_its_device_is_found(crossings):
    updating, _ = crossings(of_recipe, ("tdmpc2", "vectors", "continuous"), spoil=True)
    assert len(updating) == 2 and "fake_gpu.py" in updating[0]
