import torch
from small import stream

from agents.behaviours.returns import backward_sums, lambda_returns, replayed_returns


def test_sums_run_backwards():
    torch.manual_seed(0)
    terms, factors = torch.randn(3, 9), torch.randn(3, 9)
    found = backward_sums(terms, factors)
    for n in range(3):
        after = 0.0
        for t in reversed(range(9)):
            after = terms[n, t] + factors[n, t] * after
            torch.testing.assert_close(found[n, t], after, rtol=1e-4, atol=1e-5)


def test_a_factor_of_nothing_cuts_the_sum_whatever_comes_after():
    found = backward_sums(torch.tensor([[1.0, 2.0, float("1e30")]]), torch.tensor([[0.5, 0.0, 7.0]]))
    torch.testing.assert_close(found[0, :2], torch.tensor([2.0, 2.0]))


def test_lambda_returns_are_the_papers_recursion():
    torch.manual_seed(0)
    rewards, discounts, values = torch.randn(4, 7), torch.rand(4, 7), torch.randn(4, 7)
    for trace in (0.0, 0.95, 1.0):
        found = lambda_returns(rewards, discounts, values, trace)
        after = values[:, -1]
        for t in reversed(range(7)):
            after = rewards[:, t] + discounts[:, t] * ((1 - trace) * values[:, t] + trace * after)
            torch.testing.assert_close(found[:, t], after, rtol=1e-4, atol=1e-5)


def test_replayed_returns_end_with_their_episodes():
    steps = stream(size=8, length=7, seed=3)
    torch.manual_seed(0)
    values, discount, trace = torch.randn(8, 7), 0.9, 0.8
    inside = ~steps.is_first[:, 1:]
    found = replayed_returns(steps, inside, values, discount, trace)
    seen = set()
    for b in range(8):
        for t in range(6):
            if not inside[b, t]:
                continue
            # Walk forward from t as far as the episode goes, then mix the n-step returns backwards.
            end = t + 1
            while end < 6 and inside[b, end] and not steps.is_last[b, end]:
                end += 1
            after = None
            for k in reversed(range(t + 1, end + 1)):
                alive = 0.0 if steps.is_terminal[b, k] else discount
                beyond = values[b, k] if after is None else (1 - trace) * values[b, k] + trace * after
                after = steps.reward[b, k] + alive * beyond
            seen |= {"terminal" if steps.is_terminal[b, end] else "limit" if steps.is_last[b, end] else "cut"}
            torch.testing.assert_close(found[b, t], after, rtol=1e-4, atol=1e-5)
    assert seen == {"terminal", "limit", "cut"}
