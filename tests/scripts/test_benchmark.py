import json

from commands import command


def test_the_figures_are_printed_and_written(tmp_path):
    out = tmp_path / "speed.json"
    small = ("--batch-size", 8, "--behaviour.planner.samples", 65, "--compile", "no", "--device", "cpu", "--repeats", 2)
    said = command("benchmark.py", "tdmpc2", "--size", "1m", *small, "--out", out)
    assert said.code == 0, said.error
    figures = json.loads(out.read_text())
    assert figures == json.loads(said.out.splitlines()[-1])
    assert figures["update_ms"] > 0
    assert figures["plan_ms"] > 0
    assert figures["peak_memory_mb"] > 100
    # 24 observations, 6 actions, no continuation: the size is that of the published table's first row.
    assert abs(figures["parameters"] - 1.2e6) < 0.1e6
    cycle = figures["update_ms"] * 1024 / (8 * 4) + figures["plan_ms"]
    assert abs(figures["decisions_per_second"] - 1e3 / cycle) < 0.02


def test_recurrent_models_are_measured_on_images_as_they_train(tmp_path):
    small = ("--batch-size", 2, "--batch-length", 4, "--image-size", 16, "--behaviour.horizon", 2, "--compile", "no")
    said = command("benchmark.py", "dreamerv3", "--size", "1m", *small, "--device", "cpu", "--repeats", 2)
    assert said.code == 0, said.error
    figures = json.loads(said.out.splitlines()[-1])
    assert figures["recipe"] == "dreamerv3" and figures["update_ms"] > 0
