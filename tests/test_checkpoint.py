"""A checkpoint gives back what it was given, or says why it cannot; it never runs what it holds."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from safetransfer.errors import CheckpointError
from safetransfer.training import checkpoint


def payload() -> dict:
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(3)).sum().backward()
    optimiser.step()
    return {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "counters": {"epoch": 3, "cost": 2.5, "name": "a", "done": False, "none": None},
        "list": [1, (2, 3), {"a": 4}],
        "state": np.random.default_rng(5).bit_generator.state,
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, payload())
    return path


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_plain_data_and_tensors_come_back(tmp_path):
    given = payload()
    assert given["state"]["state"]["state"] > 2**64  # more than a machine word
    checkpoint.save(tmp_path / "a.pt", given)
    assert same(given, checkpoint.load(tmp_path / "a.pt"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int64", "uint16", "uint64", "float16", "float32", "float64", ">i4"]
)
def test_arrays_come_back_with_dtype_and_shape(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 200, (3, 4, 5)).astype(dtype)
    given = {"whole": values, "turned": values.T, "part": values[1:, ::2], "empty": values[:0]}
    given |= {"point": values[0, 0, 0], "zero": np.array(values[0, 0, 0])}
    checkpoint.save(tmp_path / "a.pt", given)
    loaded = checkpoint.load(tmp_path / "a.pt")
    for name, value in given.items():
        assert type(loaded[name]) is type(value)
        assert loaded[name].dtype == value.dtype
        np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "Philox", "SFC64", "PCG64DXSM"])
def test_random_generators_go_on_where_they_were(tmp_path, kind):
    rng = np.random.Generator(getattr(np.random, kind)(7))
    rng.random(3)
    rng.integers(0, 10, dtype=np.uint32)  # half a word is left over
    checkpoint.save(tmp_path / "a.pt", {"rng": rng, "state": rng.bit_generator.state})
    loaded = checkpoint.load(tmp_path / "a.pt")
    expected = rng.integers(0, 2**31, 100, dtype=np.uint32)
    np.testing.assert_array_equal(loaded["rng"].integers(0, 2**31, 100, dtype=np.uint32), expected)
    other = getattr(np.random, kind)()
    other.state = loaded["state"]
    np.testing.assert_array_equal(
        np.random.Generator(other).integers(0, 2**31, 100, dtype=np.uint32), expected
    )


def test_a_view_is_saved_without_what_it_is_a_view_of(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {"few": torch.zeros(1_000_000)[:2]})
    assert (tmp_path / "a.pt").stat().st_size < 10_000


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), {(1, 2): 3}, print])
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value):
    with pytest.raises(TypeError, match=r"payload\.deep\.here"):
        checkpoint.save(tmp_path / "a.pt", {"deep": {"here": value}})
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_means_its_checkpoint(saved):
    assert checkpoint.load(saved.parent)["counters"]["epoch"] == 3
    saved.unlink()
    assert "holds no checkpoint.pt" in refusal(saved.parent)
    assert "no such file" in refusal(saved)


def test_every_truncation_is_refused(saved, tmp_path):
    data, cut = saved.read_bytes(), tmp_path / "cut.pt"
    lengths = {0, 1, 3, 4, 30, len(data) - 1, len(data) - 22, *range(5, len(data), 97)}
    for length in sorted(lengths):
        cut.write_bytes(data[:length])
        message = refusal(cut)
        assert ("empty" if length == 0 else "cut short") in message


def test_a_flipped_bit_in_the_weights_is_noticed(saved):
    weight = checkpoint.load(saved)["network"]["weight"].numpy().tobytes()
    data = bytearray(saved.read_bytes())
    data[data.index(weight) + 2] ^= 1
    saved.write_bytes(data)
    assert "damaged" in refusal(saved)


def test_foreign_files_are_refused_with_the_reason(tmp_path):
    path = tmp_path / "a.pt"
    path.write_text("hello")
    assert "not a safetransfer checkpoint" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "not a safetransfer checkpoint" in refusal(path)
    torch.save({"model": torch.zeros(2)}, path)
    assert "a PyTorch file, but not a safetransfer checkpoint" in refusal(path)
    torch.save([1, 2], path)
    assert "a PyTorch file, but not a safetransfer checkpoint" in refusal(path)
    torch.save({"format": "safetransfer", "version": checkpoint.VERSION + 1}, path)
    assert "newer" in refusal(path)
    torch.save({"format": "safetransfer", "version": 1}, path)
    assert "damaged" in refusal(path)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path):
    path, target = tmp_path / "a.pt", tmp_path / "ran"
    document = {"format": "safetransfer", "version": 1, "payload": {"x": Bomb(target)}}
    torch.save(document, path)
    assert "objects other than data" in refusal(path)
    path.write_bytes(pickle.dumps(document))
    refusal(path)
    assert not target.exists()
    torch.load(_saved(document, path), weights_only=False)  # the bomb does work
    assert target.exists()


def _saved(document, path):
    torch.save(document, path)
    return path


FULL_DISK = """
import resource, sys, torch
from safetransfer.errors import CheckpointError
from safetransfer.training import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for path in sys.argv[1:]:
    try:
        checkpoint.save(path, {"big": torch.zeros(1_000_000)})
    except CheckpointError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_last_checkpoint_and_names_it(saved):
    pytest.importorskip("resource")
    before, fresh = saved.read_bytes(), saved.with_name("fresh.pt")
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, saved, fresh], capture_output=True, text=True, check=True
    )
    first, second = result.stdout.splitlines()
    assert "File too large" in first and f"the last good checkpoint is {saved}" in first
    assert "there is no earlier checkpoint" in second
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


ENDLESS_SAVES = """
import sys, torch
from safetransfer.training import checkpoint
number = 0
while True:
    number += 1
    checkpoint.save(sys.argv[1], {"numbers": torch.full((300_000,), number), "number": number})
    print(number, flush=True)
"""


def test_a_kill_while_saving_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.pt"
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_SAVES, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = 0
    while last < 5:
        last = int(process.stdout.readline())
    temporary = tmp_path / ".a.pt.tmp"
    while not temporary.exists():  # kill in the middle of a save
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = process.stdout.read().split()
    loaded = checkpoint.load(path)
    assert loaded["number"] >= int(lines[-1] if lines else last)
    assert torch.equal(loaded["numbers"], torch.full((300_000,), loaded["number"]))
    checkpoint.save(path, {"number": 0})
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's figures")
def test_loading_takes_no_second_copy_of_a_replay(tmp_path):
    """What a process that loads 200 MB takes of memory that is not the file's own pages."""
    megabytes = 200
    checkpoint.save(tmp_path / "checkpoint.pt", {"replay": np.ones(megabytes << 20, np.uint8)})
    program = """
import sys
import torch
from safetransfer.training import checkpoint
def taken():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["RssAnon"].split()[0]) >> 10
before = taken()
array = checkpoint.load(sys.argv[1])["replay"]
assert int(array.sum(dtype=int)) == len(array)
print(taken() - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    taken = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert taken < megabytes / 4
