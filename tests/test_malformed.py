"""Malformed input of every kind ends in one of our own errors, or works: never in a traceback.

By hypothesis, more than 500 examples in all; the deadline of an example stands against hanging.
"""

from __future__ import annotations

import json
import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_mocap import asf_text, bone, bvh_text, human_amc, human_asf

from safetransfer import settings_io
from safetransfer.cli import main
from safetransfer.envs.mocap.amc import read_amc
from safetransfer.envs.mocap.asf import read_asf
from safetransfer.envs.mocap.bvh import read_bvh
from safetransfer.envs.mocap.clips import load_clips
from safetransfer.envs.naming import settings_for
from safetransfer.errors import ClipError, SafeTransferError
from safetransfer.report.page import render
from safetransfer.report.runs import read_transfer
from safetransfer.training import checkpoint
from safetransfer.training.evaluate import load_policy
from safetransfer.training.keep import keep
from safetransfer.training.logs import read_rows
from safetransfer.training.loop import train
from safetransfer.training.settings import Settings, preset


def examples(number: int):
    """So many examples, the same in every run, none of which may take for ever."""
    return settings(
        max_examples=number,
        deadline=timedelta(seconds=20),
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


BYTES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"nan",
            b"inf",
            b"-1",
            b"1e400",
            b"9" * 5000,
            b"\xb2",
            b"\x00",
            b"{",
            b"[" * 20000,
            b"null",
        ]
    ),
)


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """`data` cut short, or with some edits: bytes replaced, taken out or put in, lines moved."""
    if draw(st.integers(0, 3)) == 0:
        return data[: draw(st.integers(0, len(data)))]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["replace", "insert", "delete", "line", "word"]))
        if kind == "line":
            lines = data.split(b"\n")
            line = lines.pop(draw(st.integers(0, len(lines) - 1)))
            for _ in range(draw(st.integers(0, 2))):
                lines.insert(draw(st.integers(0, len(lines))), line)
            data = b"\n".join(lines)
        elif kind == "word":
            words = re.split(rb"(\s+)", data)
            words[draw(st.integers(0, len(words) - 1))] = draw(BYTES)
            data = b"".join(words)
        else:
            new = b"" if kind == "delete" else draw(BYTES)
            data = data[:at] + new + data[at + (0 if kind == "insert" else max(1, len(new))) :]
    return data


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(10**400), 0, -1, 1e308, "inf", "", "none", "Walls", "auto"]),
        st.floats(),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def accepted_or_refused(work, *others: type[Exception]) -> bool:
    """True where `work` is done, False where it ends in an error of ours; other errors pass."""
    try:
        work()
    except (SafeTransferError, *others) as error:
        assert str(error).strip()
        return False
    return True


# --- Settings -----------------------------------------------------------------------------------


def known_names() -> list[tuple[str, str]]:
    tree = settings_io.to_dict(preset("smoke"))
    return [(section, name) for section, values in tree.items() for name in values]


@st.composite
def settings_data(draw) -> dict:
    """Settings of known sections and mostly known names, with any value."""
    data: dict = {}
    for _ in range(draw(st.integers(1, 3))):
        section, name = draw(st.sampled_from([*known_names(), ("env", "id"), ("env", "kwargs")]))
        section = draw(st.sampled_from([section] * 9 + ["enf"]))
        data.setdefault(section, {})[draw(st.sampled_from([name] * 9 + ["?"]))] = draw(VALUES)
    return data


@examples(150)
@given(data=settings_data(), as_file=st.booleans())
@example(data={"env": {"walls": 10**400}}, as_file=False)
@example(data={"agent": {"gamma": 10**400}}, as_file=False)
@example(data={"env": {"id": "Pendulum-v1", "kwargs": {"g": float("nan")}}}, as_file=True)
@example(data={"settings": []}, as_file=True)
def test_settings_with_any_values(data, as_file, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"settings": data} if as_file else data), encoding="utf-8")

    def work():
        result = settings_io.updated(preset("smoke"), settings_io.read_settings(path))
        # What is accepted can be written, and read as the same.
        text = json.dumps(settings_io.to_dict(result))
        again = settings_io.from_dict(Settings, json.loads(text))
        assert again == result or "NaN" in text  # which in kwargs is allowed, and equals nothing

    accepted_or_refused(work)


@examples(100)
@given(data=st.data(), toml=st.booleans())
def test_settings_files_that_are_damaged(data, toml, tmp_path):
    whole = (
        b'[env]\nobstacles = "Poles"\nwalls = 5\n[agent]\ngamma = 0.5\nmlp = [3, 4]\n'
        if toml
        else json.dumps(settings_io.to_dict(preset("laptop"))).encode()
    )
    path = tmp_path / ("a.toml" if toml else "a.json")
    path.write_bytes(data.draw(damaged(whole)))
    accepted_or_refused(
        lambda: settings_io.updated(preset("smoke"), settings_io.read_settings(path))
    )


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "9" * 5000, '{"env": 1}'])
@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_settings_files_without_a_bottom(text, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text(f"a = {text}" if suffix == ".toml" else text)
    assert not accepted_or_refused(
        lambda: settings_io.updated(preset("smoke"), settings_io.read_settings(path))
    )


@examples(60)
@given(name=st.sampled_from(known_names()), text=st.text(max_size=12) | BYTES.map(repr))
def test_flags_with_any_text(name, text):
    section, field = name
    accepted_or_refused(
        lambda: settings_io.updated(
            preset("smoke"),
            settings_io.parse_changes(preset("smoke"), {f"{section}.{field}": text}),
        )
    )


# --- Names of environments ----------------------------------------------------------------------

NAMES = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[\w.:/-]{0,20}", fullmatch=True),
    st.sampled_from(["PointPoles", "safetransfer/PointWalls-v0", "Pendulum-v1"]).flatmap(
        lambda name: damaged(name.encode()).map(lambda b: b.decode("latin-1"))
    ),
)


@examples(120)
@given(name=NAMES)
def test_names_of_environments(name):
    accepted_or_refused(lambda: settings_for(name))


@examples(30)
@given(name=NAMES)
def test_names_of_environments_on_the_command_line(name, capsys):
    # There is no such agent: it fails in any case, and says so in a line.
    assert main(["evaluate", "/no/agent", f"--env={name}"]) == 2
    assert capsys.readouterr().err.startswith("safetransfer: ")


# --- Motion-capture clips -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A clip of a whole person in both formats, a little longer than the least."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "01.asf").write_text(human_asf())
    (folder / "01_01.amc").write_text(human_amc(folder / "01.asf", 125))
    (folder / "a.bvh").write_text(bvh_text(125, False))
    return folder


def test_clips_cut_at_every_length(clips, tmp_path):
    """Two bones of ASF and two frames of AMC at every length, a whole BVH at many."""
    bones = [bone("upper", "1 0 0", 2.0, "0 0 0", "rx ry rz"), bone("fore", "1 0 0", 1.0, "0 0 0")]
    asf, amc, bvh = tmp_path / "a.asf", tmp_path / "a.amc", clips / "a.bvh"
    asf.write_text(asf_text(bones, "root upper\nupper fore"))
    frame = "root 1 2 3 0 0 0\nupper 10 20 30\n"
    amc.write_text(f":FULLY-SPECIFIED\n:DEGREES\n1\n{frame}2\n{frame}")
    skeleton = read_asf(asf)
    for path, read, step in (
        (asf, read_asf, 1),
        (amc, lambda path: read_amc(path, skeleton), 1),
        (bvh, read_bvh, bvh.stat().st_size // 150),
    ):
        whole, cut, refused = path.read_bytes(), tmp_path / f"cut{path.suffix}", 0
        read(path)
        for length in range(0, len(whole), step):
            cut.write_bytes(whole[:length])
            try:
                read(cut)
            except ClipError as error:
                assert str(cut) in str(error)
                refused += 1
        assert refused > len(whole) / step / 3


def test_a_digit_that_is_no_number(clips, tmp_path):
    """Latin-1's superscripts are digits to Python, and no whole numbers."""
    path = tmp_path / "a.bvh"
    path.write_bytes((clips / "a.bvh").read_bytes().replace(b"Frames: 125", b"Frames: \xb2"))
    with pytest.raises(ClipError, match="Frames"):
        read_bvh(path)


@examples(60)
@given(data=st.data(), name=st.sampled_from(["01.asf", "01_01.amc", "a.bvh"]))
def test_clips_that_are_damaged(data, name, clips, tmp_path):
    for path in clips.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / name).write_bytes(data.draw(damaged((clips / name).read_bytes())))
    accepted_or_refused(lambda: load_clips(tmp_path, 0.1))


# --- Checkpoints --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    small = settings_io.updated(
        preset("smoke"),
        {"agent": {"hidden": 4, "embedding": 4, "mlp": [4]}, "train": {"epochs": 1}},
    )
    train(small, folder / "run")
    keep(folder / "run", folder / "kept")
    return folder / "kept"


@examples(100)
@given(data=st.data())
def test_checkpoints_that_are_damaged(data, kept, tmp_path):
    whole = (kept / "checkpoint.pt").read_bytes()
    path = tmp_path / "checkpoint.pt"
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        flipped = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(bytes(flipped))
    accepted_or_refused(lambda: load_policy(path))


LEAVES = [
    ("settings",), ("settings", "env"), ("settings", "agent", "hidden"), ("shapes",),
    ("shapes", "camera"), ("shapes", "proprio"), ("agent",), ("agent", "networks"),
    ("agent", "networks", "gru.weight_ih_l0"), ("agent", "normaliser"),
    ("agent", "normaliser", "mean"), ("counters",),
]  # fmt: skip


@examples(60)
@given(where=st.sampled_from(LEAVES), value=VALUES.filter(lambda v: not _huge(v)))
def test_checkpoints_of_another_content(where, value, kept, tmp_path):
    payload = checkpoint.load(kept)
    branch = payload
    for name in where[:-1]:
        branch = branch[name]
    branch[where[-1]] = value
    checkpoint.save(tmp_path / "checkpoint.pt", payload)
    accepted_or_refused(lambda: load_policy(tmp_path))


def _huge(value) -> bool:
    """Whether a network of this width could not be made in any memory."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > 1000


# --- Logs and reports ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transfer(tmp_path_factory) -> Path:
    """A transfer directory as runs leave it."""
    root = tmp_path_factory.mktemp("transfer")
    row = {"epoch": 1, "env_steps": 10, "updates": 2, "return": 1.5, "cost": 2.0, "length": 5.0,
           "cost_total": 4.0, "multiplier": 0.1, "wall_s": 1.0, "entropy": 0.0}  # fmt: skip
    rows = [row, row | {"epoch": 2, "env_steps": 20, "cost_total": 6.0, "return": None}]
    for stage in ("pretrain", "finetune-PointPoles", "scratch-PointPoles"):
        folder = root / "seed-0" / stage
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (folder / "config.json").write_text('{"settings": {"env": {"max_steps": 5}}}')
    evaluations = root / "seed-0" / "evaluations"
    evaluations.mkdir()
    measure = {"mean": 1.0, "ci95": [0.5, 1.5]}
    for stage in ("pretrain", "zeroshot-PointPoles", "finetune-PointPoles"):
        document = {"env": "PointPoles", "episodes": 2, "mocap": None, "return": measure,
                    "cost": measure, "length": measure,
                    "per_episode": {"return": [1, 2], "cost": [0, 1]}}  # fmt: skip
        (evaluations / f"{stage}.json").write_text(json.dumps(document))
    plan = {"env": "PointWalls", "to": ["PointPoles"], "seeds": [0], "pretrain_epochs": 2,
            "finetune_epochs": 2, "carry": "weights", "episode_steps": 5,
            "settings": {"agent": {"cost_limit": 0.01}}}  # fmt: skip
    (root / "transfer.json").write_text(json.dumps(plan))
    assert "<h1>" in render(read_transfer(root))
    return root


FILES = ["transfer.json", "seed-0/pretrain/log.jsonl", "seed-0/finetune-PointPoles/log.jsonl",
         "seed-0/pretrain/config.json", "seed-0/evaluations/zeroshot-PointPoles.json"]  # fmt: skip


@examples(80)
@given(data=st.data(), name=st.sampled_from(FILES))
def test_logs_and_plans_that_are_damaged(data, name, transfer, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(transfer, copy, dirs_exist_ok=True)
    (copy / name).write_bytes(data.draw(damaged((transfer / name).read_bytes())))
    accepted_or_refused(lambda: render(read_transfer(copy)))
    if name.endswith(".jsonl"):
        accepted_or_refused(lambda: read_rows(copy / name))


@examples(60)
@given(data=st.data(), name=st.sampled_from(FILES), value=VALUES)
def test_logs_and_plans_of_another_content(data, name, value, transfer, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(transfer, copy, dirs_exist_ok=True)
    lines = (transfer / name).read_text().splitlines()
    which = data.draw(st.integers(0, len(lines) - 1))
    document = json.loads(lines[which])
    branch, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(branch[key], dict) and branch[key] and data.draw(st.booleans()):
        branch, key = branch[key], data.draw(st.sampled_from(sorted(branch[key])))
    branch[key] = value
    lines[which] = json.dumps(document)
    (copy / name).write_text("\n".join(lines) + "\n")
    accepted_or_refused(lambda: render(read_transfer(copy)))


def test_these_are_not_all_refused_for_one_reason(tmp_path):
    """The helpers tell what is accepted from what is not."""
    path = tmp_path / "a.json"
    path.write_text('{"env": {"walls": 3}}')
    assert accepted_or_refused(lambda: settings_io.read_settings(path))
    assert not accepted_or_refused(lambda: settings_io.read_settings(tmp_path))
    with pytest.raises(ZeroDivisionError):
        accepted_or_refused(lambda: 1 / 0)
