"""Draws that compilers neither open nor merge."""

import pytest
import torch

from worldmodel.dynamics.noise import exponential_noise, standard_noise
from worldmodel.nn.layers import keep_mask

NOISES = {"exponential": exponential_noise, "standard": standard_noise}


@pytest.mark.parametrize("name", NOISES)
def test_a_sequence_draws_what_its_steps_would_draw(name):
    torch.manual_seed(3)
    sequence = NOISES[name](torch.ones(1), 4, [5, 3, 2])
    torch.manual_seed(3)
    steps = [NOISES[name](torch.ones(1), 1, [5, 3, 2])[0] for _ in range(4)]
    assert torch.equal(sequence, torch.stack(steps))


@pytest.mark.parametrize(("name", "moments"), [("exponential", (1, 2, 6)), ("standard", (0, 1, 0))])
def test_draws_have_the_moments_of_their_distribution(name, moments):
    torch.manual_seed(0)
    drawn = NOISES[name](torch.ones(1), 1, [400_000]).double()
    for power, expected in enumerate(moments, 1):
        spread = (drawn**power).std().item() / len(drawn.flatten()) ** 0.5
        assert (drawn**power).mean().item() == pytest.approx(expected, abs=5 * spread)


@pytest.mark.parametrize("operator", [*NOISES.values(), keep_mask], ids=[*NOISES, "dropout"])
def test_compilers_are_told_its_shape_and_that_it_is_random(operator):
    arguments = (torch.ones(2, 3), 0.5) if operator is keep_mask else (torch.ones(1), 2, [3, 4])
    told = torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
    assert set(told.values()) == {"SUCCESS"}
    assert torch.Tag.nondeterministic_seeded in operator._opoverload.tags


@pytest.mark.parametrize("name", [*NOISES, "dropout"])
def test_a_compiled_step_draws_anew_each_time_and_what_it_draws_without_compilation(name):
    def draw(x: torch.Tensor) -> torch.Tensor:
        return keep_mask(x.detach(), 0.5).float() if name == "dropout" else NOISES[name](x.detach(), 1, [64])[0]

    def steps(x: torch.Tensor) -> torch.Tensor:
        found = []
        for _ in range(3):
            x = 0.5 * x + 1
            found.append(x * 0 + draw(x))
        return torch.stack(found)

    found = []
    for function in (steps, torch.compile(steps, fullgraph=True, backend="aot_eager_decomp_partition")):
        torch.manual_seed(1)
        # A gradient is asked for: of the graph of both directions equal calls are merged.
        found.append(function(torch.zeros(64, requires_grad=True)).detach())
    torch._dynamo.reset()
    assert torch.equal(*found)
    assert not torch.equal(found[1][0], found[1][1]) and not torch.equal(found[1][1], found[1][2])
