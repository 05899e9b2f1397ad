import torch
from small import model, stream

from worldmodel.diagnostics import CollapseWatch, rows_of
from worldmodel.dynamics import RSSMConfig


def spread(dimensions: int) -> torch.Tensor:
    rows = torch.zeros(256, 16)
    rows[:, :dimensions] = torch.randn(256, dimensions)
    return rows


def test_a_fall_of_rank_is_told_once_and_again_after_it_had_risen():
    watch, told = CollapseWatch(), []
    for dimensions in (12, 16, 8, 1, 1, 8, 1):
        numbers, sentences = watch.look({"embedding": spread(dimensions)})
        assert numbers.keys() == {"effective_rank/embedding", "deviation/embedding", "still_dimensions/embedding"}
        assert numbers["still_dimensions/embedding"] == 1 - dimensions / 16
        assert numbers["effective_rank/embedding"] <= dimensions + 0.1
        told.append(sentences)
    assert [len(sentences) for sentences in told] == [0, 0, 0, 1, 0, 0, 1]
    assert "The embedding is collapsing: its effective rank is 1, it was 15" in told[3][0]


def test_a_fall_onto_a_line_is_told_where_there_was_no_room_for_a_tenth():
    watch = CollapseWatch()
    assert watch.look({"embedding": spread(4)})[1] == []
    _, sentences = watch.look({"embedding": spread(1)})
    assert len(sentences) == 1 and "its effective rank is 1, it was 3.9" in sentences[0]


def test_vectors_that_become_one_are_told_by_their_deviation():
    watch = CollapseWatch()
    watch.look({"feature": spread(16)})
    _, sentences = watch.look({"feature": 1 + 0.01 * spread(16)})
    assert len(sentences) == 1 and "its deviation is 0.00" in sentences[0]


def test_looking_draws_nothing_from_the_run_and_reads_what_the_losses_read():
    one, steps = model(dynamics=RSSMConfig(16, 8, 4, 3, 2)), stream(size=6, length=5)
    before = torch.get_rng_state()
    rows = rows_of(one, steps)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(rows["embedding"], one.encoder(steps.observation).flatten(0, 1))
    assert rows["feature"].shape == (30, one.feature_dim) and not rows["feature"].requires_grad
