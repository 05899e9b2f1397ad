import os
import subprocess
import sys

import pytest
import torch

from worldmodel.snapshots import (
    DamagedError,
    newest,
    read_json,
    read_tensors,
    settle_behind,
    verify,
    write_file,
    write_json,
    write_tensors,
    writing,
)


def write(folder, value: int) -> None:
    with writing(folder) as beside:
        write_json(beside / "value.json", {"value": value})
        write_tensors(beside / "value.safetensors", {"value": torch.full((100,), float(value))})


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_written_whole_and_replaced_whole(tmp_path):
    for value in (1, 2):
        write(tmp_path / "a", value)
        verify(tmp_path / "a")
        assert read_json(tmp_path / "a" / "value.json") == {"value": value}
        assert read_tensors(tmp_path / "a" / "value.safetensors")["value"].unique().tolist() == [value]
        assert names(tmp_path) == {"a"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_writing_leaves_the_old_folder_and_nothing_beside_it(tmp_path, error):
    write(tmp_path / "a", 1)
    for name in ("a", "b"):
        with pytest.raises(error), writing(tmp_path / name) as beside:
            write_json(beside / "value.json", {"value": 2})
            raise error
    assert names(tmp_path) == {"a"}
    verify(tmp_path / "a")
    assert read_json(tmp_path / "a" / "value.json") == {"value": 1}


def test_a_process_killed_while_writing_leaves_the_old_folder(tmp_path):
    write(tmp_path / "a", 1)
    code = (
        "import os, pathlib, sys; from worldmodel.snapshots import writing\n"
        "with writing(pathlib.Path(sys.argv[1])) as beside: (beside / 'value.json').write_text('{'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "a"], timeout=60).returncode == 9
    found, damaged = newest(tmp_path)
    assert found == tmp_path / "a" and damaged == []
    assert read_json(found / "value.json") == {"value": 1}
    write(tmp_path / "a", 2)
    assert read_json(newest(tmp_path)[0] / "value.json") == {"value": 2}


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [flip, truncate, os.remove])
@pytest.mark.parametrize("name", ["value.json", "value.safetensors", "checksums.json"])
def test_damage_is_detected_named_and_passed_over(tmp_path, harm, name):
    for folder in ("000", "001", "002"):
        write(tmp_path / folder, int(folder))
    (tmp_path / ".003.17").mkdir()
    (tmp_path / "note.txt").write_text("no folder")
    assert newest(tmp_path) == (tmp_path / "002", [])
    harm(tmp_path / "002" / name)
    with pytest.raises(DamagedError, match="002"):
        verify(tmp_path / "002")
    found, damaged = newest(tmp_path)
    assert found == tmp_path / "001"
    assert len(damaged) == 1 and "002" in damaged[0] and "\n" not in damaged[0]


def test_where_nothing_is_there_nothing_is_found(tmp_path):
    assert newest(tmp_path) == newest(tmp_path / "nowhere") == (None, [])


def test_tensors_come_back_as_they_were_though_they_shared_memory(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    tensors = {"base": base, "view": base[1], "turned": base.T, "flags": base > 5, "half": base.bfloat16()}
    tensors["leaf"] = torch.ones(2, requires_grad=True)
    write_tensors(tmp_path / "t", tensors)
    read = read_tensors(tmp_path / "t")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in tensors)
    (tmp_path / "t").write_bytes(b"no tensors")
    with pytest.raises(DamagedError, match="cannot be read"):
        read_tensors(tmp_path / "t")


def test_a_file_is_replaced_at_a_stroke(tmp_path):
    for data in (b"one", b"two"):
        write_file(tmp_path / "f", data)
        assert (tmp_path / "f").read_bytes() == data and names(tmp_path) == {"f"}


@pytest.mark.parametrize("links", [True, False])
def test_a_file_takes_the_first_free_name_and_replaces_nothing(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise PermissionError("Operation not permitted")  # as exFAT says it

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "1").write_text("theirs")
    for number in (1, 1, 3):
        (tmp_path / "beside").write_text("ours")
        following = settle_behind(tmp_path / "beside", lambda n: tmp_path / str(n), number)
    assert following == 5 and names(tmp_path) == {"1", "2", "3", "4"}
    assert (tmp_path / "1").read_text() == "theirs" and (tmp_path / "4").read_text() == "ours"
