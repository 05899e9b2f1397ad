import math

import pytest
import torch

from worldmodel.diagnostics import dci, mig


def draw(rows: int, dimensions: int) -> torch.Tensor:
    return torch.rand(rows, dimensions, generator=torch.Generator().manual_seed(dimensions))


FACTORS = draw(600, 3)
ROTATION = torch.linalg.qr(draw(3, 3) - 0.5).Q
TWICE = torch.cat([FACTORS, FACTORS], dim=1)


def test_a_code_of_one_factor_a_dimension_is_told_from_a_rotated_one():
    permuted, rotated = (dci(code, FACTORS) for code in (FACTORS[:, [2, 0, 1]].pow(3), FACTORS @ ROTATION))
    assert min(permuted) > 0.95, permuted
    assert rotated.disentanglement < 0.5 and rotated.completeness < 0.5
    assert rotated.informativeness > 0.8, "it still tells everything"


def test_factors_told_by_two_dimensions_each_are_disentangled_but_not_complete():
    found = dci(TWICE, FACTORS)
    assert found.disentanglement > 0.95
    assert found.completeness == pytest.approx(1 - math.log(2) / math.log(6), abs=0.05)


def test_the_gap_of_information_is_one_at_a_permutation_and_nothing_where_two_dimensions_tell_the_same():
    large = draw(20_000, 2)
    assert mig(large[:, [1, 0]], large) == pytest.approx(1, abs=0.02)
    assert mig(torch.cat([large, large], dim=1), large) == pytest.approx(0, abs=1e-6)
    assert mig(torch.rand(20_000, 2), large) < 0.01


def test_the_information_of_categories_is_the_known_one():
    # Two fair bits; the code's first dimension is their first bit, its second one is noise: all of
    # one, nothing of the other.
    bits = torch.randint(0, 2, (20_000, 2)).float()
    code = torch.stack([bits[:, 0], torch.rand(20_000)], dim=1)
    assert mig(code, bits) == pytest.approx(0.5, abs=0.01)


def test_factors_that_never_change_are_left_out():
    still = torch.cat([FACTORS, torch.ones(len(FACTORS), 1)], dim=1)
    assert dci(FACTORS, still) == dci(FACTORS, FACTORS)
    assert mig(FACTORS, still) == mig(FACTORS, FACTORS)
    with pytest.raises(ValueError, match="in these rows none does"):
        dci(FACTORS, still[:, 3:])
    assert math.isnan(mig(FACTORS, still[:, 3:]))
