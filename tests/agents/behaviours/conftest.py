import sys
from pathlib import Path

import pytest

# Where the tests below find small_behaviour.py, and small.py of tests/worldmodel.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "worldmodel")]

from small import CONTINUOUS, DISCRETE, SEVERAL_DISCRETE  # noqa: E402

SPECS = {"continuous": CONTINUOUS, "discrete": DISCRETE, "several discrete": SEVERAL_DISCRETE}


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def spec(request):
    """A task of each kind of action."""
    return request.param
