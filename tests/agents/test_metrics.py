import json

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.metrics import Averages, MetricsLog


def rows(logdir):
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def curve(logdir, name):
    events = EventAccumulator(str(logdir))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_averages_are_means_since_they_were_last_taken():
    averages, random = Averages(), np.random.default_rng(0)
    assert averages.take() == {}
    for count in (1, 7):
        values = random.normal(size=(count, 2)).astype(np.float32)
        tensors = torch.from_numpy(values)
        for row in tensors:
            averages.add({"one": row[0], "other": row[1].requires_grad_(False)})
        taken = averages.take()
        np.testing.assert_allclose([taken["one"], taken["other"]], values.mean(0), rtol=1e-5)
        np.testing.assert_array_equal(tensors, values)
    assert averages.take() == {}


def test_averages_go_on_from_what_was_saved():
    whole, saved, restored = Averages(), Averages(), Averages()
    restored.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    assert restored.take() == {}
    for index, value in enumerate(torch.randn(5)):
        if index == 3:
            restored.load_state_dict(json.loads(json.dumps(saved.state_dict())))
        whole.add({"a": value})
        (saved if index < 3 else restored).add({"a": value})
    assert restored.take() == whole.take()


def test_averages_do_not_write_into_what_they_are_given():
    averages, value = Averages(), torch.tensor(1.0)
    averages.add({"a": value})
    averages.add({"a": torch.tensor(3.0)})
    assert value.item() == 1.0
    assert averages.take() == {"a": 2.0}


def test_rows_are_there_at_once_and_in_tensorboard_too(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(10, {"loss": 0.5, "return": -3.0})
    assert rows(tmp_path) == [{"step": 10, "loss": 0.5, "return": -3.0}]
    log.close()
    assert curve(tmp_path, "loss") == [(10, 0.5)]


def test_going_on_drops_the_future_and_a_torn_last_line_but_nothing_else(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (10, 20, 21, 40):
        log.write(step, {"loss": float(step)})
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 15, "loss"')
    log = MetricsLog(tmp_path, from_step=21)
    assert [row["step"] for row in rows(tmp_path)] == [10, 20]
    log.write(25, {"loss": 25.0})
    log.close()
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 25]
    assert curve(tmp_path, "loss") == [(10, 10.0), (20, 20.0), (25, 25.0)]


def test_a_run_from_its_beginning_drops_what_an_earlier_one_left(tmp_path):
    for _ in range(2):
        log = MetricsLog(tmp_path, from_step=0)
        log.write(5, {"loss": 1.0})
        log.close()
    assert len(rows(tmp_path)) == 1
    assert curve(tmp_path, "loss") == [(5, 1.0)]
