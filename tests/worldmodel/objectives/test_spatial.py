"""Predictive coding in space: what is cut out and turned, and the losses beside plain loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from everyone import Place
from small import CONTINUOUS, stream

from worldmodel import objectives
from worldmodel.nn.transformer import positions
from worldmodel.objectives.spatial import PLACES, turn

STEPS = stream(size=3, length=4, seed=2)


def seen(place, name="camera"):
    """Every observation that the encoder is given, in the order of the calls."""
    given, real = [], place.encoder.forward
    place.encoder.forward = lambda observation: given.append(observation[name]) or real(observation)
    return given


def test_images_are_turned_by_quarters():
    images = torch.randint(0, 256, (5, 3, 8, 8, 2), dtype=torch.uint8)
    quarters = torch.randint(0, 4, (5, 3))
    turned = turn(images, quarters)
    assert turned.dtype is torch.uint8
    for b in range(5):
        for t in range(3):
            assert np.array_equal(turned[b, t], np.rot90(images[b, t], int(quarters[b, t])))


def test_the_rotation_is_told_from_the_turned_image():
    place = Place("rotation", False)
    given = seen(place)
    torch.manual_seed(1)
    loss = place(STEPS).losses["rotation"]
    torch.manual_seed(1)
    quarters = torch.randint(0, 4, (3, 4))
    expected = F.cross_entropy(
        place.objective.head(place.encoder({"camera": given[0]})).flatten(0, 1), quarters.flatten()
    )
    torch.testing.assert_close(loss, expected)


def test_patches_lie_where_the_relative_position_says():
    place = Place("relative-position", False, share=0.25, gap=0.05, jitter=0.0)
    where = torch.arange(8).repeat(500, 1)
    first, second = place.objective.centres(where)
    expected = 2 * 0.3 * torch.tensor(PLACES, dtype=torch.float32)
    torch.testing.assert_close(second - first, expected.expand(500, 8, 2))
    assert torch.cat([first, second]).abs().max() <= 0.75 + 1e-6, "whole inside the image"
    assert first.std(0).min() > 0.1, "and anywhere there"
    shaken = Place("relative-position", False, share=0.25, gap=0.05, jitter=0.04).objective.centres(where)
    off = (shaken[1] - shaken[0] - expected).abs()
    assert 0.1 < off.max() <= 4 * 0.04 + 1e-6 and torch.cat(shaken).abs().max() <= 0.75 + 1e-6


def test_the_place_is_told_from_both_patches():
    place = Place("relative-position", False, grey=False)
    given = seen(place)
    torch.manual_seed(1)
    loss = place(STEPS).losses["relative-position"]
    torch.manual_seed(1)
    where = torch.randint(0, 8, (3, 4))
    one, other = place.encoder({"camera": given[0]}).chunk(2)
    logits = place.objective.head(torch.cat([one, other], dim=-1))
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), where.flatten()))
    with pytest.raises(ValueError, match=r"take 1\.18 of an image: give a smaller share"):
        Place("relative-position", False, share=0.33)


def test_a_patch_is_cut_out_of_the_image():
    place = Place("spatial-cpc", False)
    ramp = torch.arange(8.0).view(1, 1, 1, 8, 1).expand(3, 4, 8, 8, 1)
    steps = STEPS._replace(observation={"camera": ramp.to(torch.uint8)})
    columns = [place.objective.patch(steps, n)["camera"][0, 0, 4, :, 0] for n in range(3)]
    for n, column in enumerate(columns):  # three halves of the image, overlapping by half
        assert column[2:-2].diff().tolist() == pytest.approx([0.5] * 3, abs=1e-4)
        assert column.mean().item() == pytest.approx(1.5 + 2 * n, abs=0.1)


def test_spatial_cpc_predicts_nothing_that_it_sees():
    place = Place("spatial-cpc", False, grid=4)
    objective = place.objective
    assert len(objective.predictions) == 2

    def rows_of(number):
        found = set()
        for row in range(8):
            line = torch.zeros(3, 4, 8, 8, 1, dtype=torch.uint8)
            line[:, :, row] = 255
            cut = objective.patch(STEPS._replace(observation={"camera": line}), number)["camera"]
            if cut[0, 0].float().mean() > 32:
                found.add(row)
        return found

    assert rows_of(0) & rows_of(4) and not rows_of(0) & rows_of(8)  # the first patch of rows 0, 1 and 2
    with pytest.raises(ValueError, match="give grid=3 or more, not 2"):
        Place("spatial-cpc", False, grid=2)


@pytest.mark.parametrize("negatives", ["batch", "episode", "time", "image"])
def test_spatial_cpc_tells_patches_further_down(negatives):
    place = Place("spatial-cpc", False, negatives=negatives)
    objective, given = place.objective, seen(place)
    loss = place.loss(STEPS)
    embedding = place.encoder({"camera": given[0]}).unflatten(0, (9, 3)).permute(1, 2, 0, 3)  # [B, T, P, E]
    sees = torch.tensor([[i // 3 >= j // 3 for j in range(9)] for i in range(9)])
    places = positions(9, 8, torch.device("cpu"))
    context, described = {}, {}
    for b in range(3):
        for t in range(4):
            told = objective.context((objective.inputs(embedding[b, t]) + places).unsqueeze(0), sees.unsqueeze(0))[0]
            for p in range(9):
                context[b, t, p], described[b, t, p] = told[p], objective.description(embedding[b, t, p])
    by_distance = []
    for distance in (2,):  # patches of the next row are half seen already
        losses = []
        for (b, t, p), told in context.items():
            if p + 3 * distance > 8:
                continue
            predicted = objective.predictions[distance - 2](told)
            target, scores = (b, t, p + 3 * distance), []
            for (c, u, q), key in described.items():
                same_episode = c == b and not STEPS.is_first[b, min(t, u) + 1 : max(t, u) + 1].any()
                if q >= 3 * distance and (c, u, q) != target:
                    counts = {
                        "batch": True,
                        "episode": same_episode and u != t,
                        "time": u == t and not same_episode,
                        "image": (c, u) == (b, t),
                    }
                    if counts[negatives]:
                        scores.append(predicted @ key)
            positive = predicted @ described[target]
            losses.append(torch.stack([positive, *scores]).logsumexp(0) - positive)
        by_distance.append(torch.stack(losses).mean())
    torch.testing.assert_close(loss, torch.stack(by_distance).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["rotation", "relative-position", "spatial-cpc"])
def test_a_task_without_images_is_refused(name):
    with pytest.raises(ValueError, match="looks at images, but the task shows none"):
        objectives.make(name, spec=CONTINUOUS, embed_dim=8)


@pytest.mark.parametrize(("name", "chance"), [("rotation", math.log(4)), ("relative-position", math.log(8))])
def test_at_chance_the_loss_is_the_logarithm_of_the_choices(name, chance):
    place = Place(name, False)
    with torch.no_grad():
        for parameter in place.objective.head[-1].parameters():
            parameter.zero_()
    assert place.loss(STEPS).item() == pytest.approx(chance, rel=1e-5)
