"""Imports run one way: scripts → agents → worldmodel, and scripts → envs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "worldmodel": {"agents", "envs", "scripts", "benchmarks", "tests"},
    "agents": {"envs", "scripts", "benchmarks", "tests"},
    "envs": {"worldmodel", "agents", "scripts", "benchmarks", "tests", "torch"},
    "scripts": {"benchmarks", "tests"},
}
PACKAGES = ("worldmodel", "agents", "envs", "scripts")


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, inside its functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module if node.level == 0 else path.relative_to(ROOT).parts[0])
    return {name.split(".")[0] for name in names if name}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): imported(f) & FORBIDDEN[package] for f in files}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_reader_of_imports_sees_each_kind_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text("import a.b as c\nfrom d.e import f\ndef g():\n    import h, i\nif True:\n    from j import k\n")
    assert imported(path) == {"a", "d", "h", "i", "j"}


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_mirror_the_folders(package):
    tests = ROOT / "tests" / package
    orphans = {
        str(folder.relative_to(tests))
        for folder in tests.rglob("*")
        if folder.is_dir()
        and folder.name != "__pycache__"
        and not (ROOT / package / folder.relative_to(tests)).is_dir()
    }
    assert orphans == set()
    assert any(tests.rglob("test_*.py"))


def test_the_environments_import_no_torch_and_the_model_no_environment_suite():
    code = """
import sys
import envs
assert "torch" not in sys.modules, "envs imports torch"
import worldmodel
found = {"agents", "dm_control", "mujoco", "tyro", "rich", "tensorboard", "matplotlib"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
