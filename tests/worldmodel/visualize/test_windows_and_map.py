"""Which stretches are looked at, and the map of latent states."""

from __future__ import annotations

import sys

import pytest
import small
import torch

from worldmodel.data import Steps
from worldmodel.data.episodes import from_a_beginning
from worldmodel.visualize import latent_map, window_indices, windows
from worldmodel.visualize.latent_map import principal_components
from worldmodel.visualize.windows import lead_of, with_lead


def recording(lengths: list[int], first: bool = True) -> Steps:
    """Episodes of these lengths; observations and rewards say which episode and which step it is."""
    is_first = torch.cat([torch.arange(n) == 0 for n in lengths])
    is_first[0] = first
    episode = torch.cat([torch.full((n,), float(i)) for i, n in enumerate(lengths)])
    step = torch.cat([torch.arange(float(n)) for n in lengths])
    no = torch.zeros_like(is_first)
    return Steps({"state": torch.stack([episode, step, step], -1)}, step, is_first, no, no, torch.zeros(len(step), 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("first", [True, False])
def test_windows_lie_inside_episodes_newest_first_and_never_overlap(first, seed):
    chosen = windows(recording([30, 3, 12, 25], first), 10, 8, seed).observation["state"]
    assert chosen.shape == (6, 10, 3), "three of the first episode, one of the third, two of the last"
    assert chosen[:3, 0, 0].tolist() == [3.0, 2.0, 0.0]
    assert chosen[0, 0, 1] == 0, "the first shows how the newest episode begins"
    seen = set()
    for window in chosen:
        assert (window[:, 0] == window[0, 0]).all()
        assert window[:, 1].equal(window[0, 1] + torch.arange(10.0))
        steps = {(float(e), float(t)) for e, t, _ in window}
        assert not seen & steps
        seen |= steps


@pytest.mark.parametrize(
    ("lengths", "count", "shape"),
    [
        ([4, 7, 5], 1, (1, 7)),  # the longest, whole
        ([4, 7, 5], 3, (3, 4)),  # all of them, as long as the shortest
        ([2, 9, 8], 3, (2, 5)),  # no shorter than half of the longest
        ([2, 9], 5, (1, 5)),
    ],
)
def test_where_too_few_episodes_are_so_long_windows_are_shorter(lengths, count, shape):
    chosen = windows(recording(lengths), 10, count)
    assert chosen.reward.shape == shape
    assert all(row.unique().numel() == 1 for row in chosen.observation["state"][..., 0])


def test_the_steps_before_a_window_lead_to_it():
    steps = recording([6, 20, 20])
    chosen = windows(steps, 5, 4, lead=8)
    assert chosen.reward.shape == (4, 13)
    places = window_indices(steps.is_first, 5, 4)
    assert torch.equal(chosen.reward[:, 8:], steps.reward[places])
    for row, place in zip(range(4), places[:, 0].tolist(), strict=True):
        for k in range(8):
            source = place - 8 + k
            assert chosen.reward[row, k] == steps.reward[max(source, 0)]
            assert chosen.is_first[row, k] == (steps.is_first[source] if source >= 0 else True)


def test_the_lead_goes_back_to_the_beginning_of_the_episode_that_has_gone_on_for_longest():
    steps = recording([6, 20, 20])
    places = torch.tensor([[10], [30], [6]]) + torch.arange(5)
    assert lead_of(steps.is_first, places) == 4 and lead_of(steps.is_first, places, 3) == 3
    assert with_lead(steps, places, 4).is_first[:, 0].tolist() == [True, True, False]
    cut = recording([6, 20, 20], first=False)
    assert len(from_a_beginning(cut).reward) == 40 and from_a_beginning(cut).is_first[0]
    assert len(from_a_beginning(recording([30, 20], first=False)).reward) == 50, "where it is more than half, it stays"


def test_no_action_leads_from_what_stands_in_to_a_recording_that_begins_amid_an_episode():
    steps = recording([20])
    steps.is_first[0] = False
    chosen = with_lead(steps, torch.arange(3, 8).unsqueeze(0), 6)
    assert chosen.is_first[0].tolist() == [True] * 4 + [False] * 7, (
        "three stand in, and the recording's first begins as well"
    )
    assert not with_lead(steps, torch.arange(5).unsqueeze(0), 0).is_first.any()


def test_principal_components_of_many_features_are_those_of_the_whole_decomposition(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 3, generator=generator) @ torch.randn(3, 300, generator=generator)
    features += 0.05 * torch.randn(500, 300, generator=generator)
    before = torch.get_rng_state()
    points, share = principal_components(features)
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr(sys.modules[latent_map.__module__], "WIDE", 10_000)
    exact, exact_share = principal_components(features)
    torch.testing.assert_close(points, exact, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(share, exact_share, rtol=1e-4, atol=1e-4)


def test_principal_components_find_the_direction_of_most_variance():
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    spread = torch.tensor([9.0, 3.0, 0.1, 0.1, 0.1])
    inner = torch.randn(4000, 5, generator=generator) * spread
    points, share = principal_components(inner @ directions.T + 7)
    correlation = torch.corrcoef(torch.cat([points, inner[:, :2]], dim=1).T).abs()
    assert correlation[0, 2] > 0.999 and correlation[1, 3] > 0.999
    assert share.tolist() == pytest.approx([0.9, 0.1], abs=0.01)
    assert (points.gather(0, points.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_map_is_coloured_by_reward_and_by_time():
    steps = recording([40, 30])
    found = []
    for reward in (steps.reward, torch.zeros_like(steps.reward)):
        picture = latent_map(small.model(), steps._replace(reward=reward), "here")
        assert picture.shape[2] == 3
        halves = picture[40:, : picture.shape[1] // 2], picture[40:, picture.shape[1] // 2 :]
        found.append([len({tuple(c) for c in half.reshape(-1, 3).tolist()}) for half in halves])
    (by_reward, by_time), (by_none, by_time_still) = found
    assert by_reward > 10 and by_time == by_time_still > 10 and by_none < 6, "the right one does not know the reward"
