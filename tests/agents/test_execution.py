import pytest
import torch

from agents import execution
from agents.execution import Execution, ExecutionConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "There is no device 'gpu': give auto, cpu, cuda or cuda:N"),
        ({"device": "meta"}, "'meta' is not supported: give auto, cpu"),
        ({"device": "cuda:99"}, "'cuda:99' was asked for, but PyTorch sees .* here: give auto or cpu"),
        ({"precision": "float16"}, "'float16' is not supported: give auto, float32 or bfloat16"),
        ({"compile": False}, "compile=False is not supported: give 'auto', 'yes' or 'no'"),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        Execution(ExecutionConfig(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("available", [True, False])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert execution.named_device("auto").type == ("cuda" if available else "cpu")


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [("sse2 avx2 amx_bf16", "bfloat16"), ("avx512_bf16", "bfloat16"), ("avx512f avx2", "float32"), ("", "float32")],
)
def test_auto_precision_is_bfloat16_where_the_cpu_multiplies_it_in_hardware(monkeypatch, tmp_path, flags, dtype):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr("builtins.open", lambda path: cpuinfo.open() if path == "/proc/cpuinfo" else None)
    chosen = execution._dtype("auto", torch.device("cpu"))
    assert chosen is getattr(torch, dtype)
    assert execution._dtype("float32", torch.device("cpu")) is torch.float32
    assert execution._dtype("bfloat16", torch.device("cpu")) is torch.bfloat16


def test_autocast_multiplies_in_the_precision_asked_for():
    a = torch.ones(2, 2)
    for precision in ("float32", "bfloat16"):
        with Execution(ExecutionConfig("cpu", precision, "no")).autocast():
            assert (a @ a).dtype is getattr(torch, precision)


def test_without_a_compiler_auto_runs_uncompiled_and_yes_is_refused(monkeypatch):
    monkeypatch.setattr(execution.shutil, "which", lambda name: None)
    quiet = Execution(ExecutionConfig("cpu", "float32", "auto"))
    assert not quiet.compiles
    assert quiet.describe().endswith("not compiled: it needs a C++ compiler (apt install g++)")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler .apt install"):
        Execution(ExecutionConfig("cpu", "float32", "yes"))


@pytest.mark.parametrize(
    ("capability", "dtype", "lacking", "words"),
    [
        ((9, 0), "bfloat16", None, None),
        ((9, 0), "bfloat16", "compiler", "it needs a C compiler (apt install gcc)"),
        ((9, 0), "bfloat16", "triton", "it needs triton (pip install triton)"),
        ((7, 5), "float32", None, None),
        (
            (7, 5),
            "bfloat16",
            None,
            "in bfloat16 it needs a GPU of compute capability 8.0 or more (or precision float32)",
        ),
        ((6, 1), "float32", None, "it needs a GPU of compute capability 7.0 or more"),
    ],
)
def test_what_a_gpu_needs_for_compiling(monkeypatch, capability, dtype, lacking, words):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(execution.shutil, "which", lambda name: None if lacking == "compiler" else f"/usr/bin/{name}")
    monkeypatch.setattr(execution.importlib.util, "find_spec", lambda name: None if lacking == "triton" else name)
    monkeypatch.setattr(execution.Path, "is_file", lambda path: True)
    device = torch.device("cuda", 0)
    assert execution.obstacle_to_compiling(device, getattr(torch, dtype)) == words
    assert execution._dtype("auto", device) is (torch.bfloat16 if capability >= (8, 0) else torch.float32)


def test_uncompiled_functions_stay_as_they_are_and_compiled_ones_are_compiled_once(monkeypatch):
    def double(x):
        return 2 * x

    assert Execution(ExecutionConfig("cpu", "float32", "no")).compile(double) is double
    monkeypatch.setattr(execution, "obstacle_to_compiling", lambda device, dtype: None)
    calls = []
    monkeypatch.setattr(torch, "compile", lambda f, **options: calls.append(f) or (lambda x: f(x)))
    compiling = Execution(ExecutionConfig("cpu", "float32", "yes"))
    compiled = compiling.compile(double)
    assert compiling.compile(double) is compiled
    assert compiling.compile(compiled) is compiled
    assert calls == [double]


def test_a_run_says_where_it_runs():
    assert Execution(ExecutionConfig("cpu", "bfloat16", "no")).describe() == "cpu, 1 thread, bfloat16"
