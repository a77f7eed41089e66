"""Motion-capture files: hand-computed positions, real clips, broken files, folders, downloads."""

from __future__ import annotations

import codecs
import csv
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.mocap import load_clips
from safetransfer.envs.mocap.amc import read_amc
from safetransfer.envs.mocap.asf import read_asf
from safetransfer.envs.mocap.builtin import builtin_motions, human_skeleton
from safetransfer.envs.mocap.bvh import read_bvh
from safetransfer.envs.mocap.clips import DIRECTIONS, HEIGHT, VELOCITY, lowest
from safetransfer.envs.mocap.download import DEFAULT_TRIALS, download
from safetransfer.envs.mocap.folder import find_clips
from safetransfer.envs.mocap.rotations import about, align_signs, slerp
from safetransfer.envs.mocap.skeleton import BONES, PARENTS, RADII, Body, Motion, Skeleton
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import ClipError, SettingError

METRE = 0.0254 / 0.45  # of the CMU files' length unit


def bone(name: str, direction: str, length: float, axis: str, dof: str = "") -> str:
    lines = [
        f"  name {name}",
        f"  direction {direction}",
        f"  length {length}",
        f"  axis {axis} XYZ",
    ]
    return "\n".join(["begin", *lines, *([f"  dof {dof}"] if dof else []), "end"])


def asf_text(bones: list[str], hierarchy: str) -> str:
    return "\n".join(
        [
            ":version 1.10",
            ":units",
            "  length 0.45",
            "  angle deg",
            ":root",
            "  order TX TY TZ RX RY RZ",
            "  axis XYZ",
            "  position 0 0 0",
            "  orientation 0 0 0",
            ":bonedata",
            *bones,
            ":hierarchy",
            "begin",
            hierarchy,
            "end",
            "",
        ]
    )


@pytest.fixture
def arm(tmp_path: Path) -> tuple[Path, Path]:
    """Two bones along x from the root; the second bends about its own axis frame's x."""
    asf, amc = tmp_path / "arm.asf", tmp_path / "arm.amc"
    upper = bone("upper", "1 0 0", 2.0, "0 0 0", "rx ry rz")
    # The axis frame of `fore` is turned 90 degrees about z: its x is the world's y.
    fore = bone("fore", "1 0 0", 1.0, "0 0 90", "rx")
    asf.write_text(asf_text([upper, fore], "root upper\nupper fore"))
    amc.write_text(
        ":FULLY-SPECIFIED\n:DEGREES\n"
        "1\nroot 1 2 3 0 0 0\nupper 0 0 0\nfore 0\n"
        "2\nroot 1 2 3 0 0 0\nupper 0 0 90\nfore 0\n"
        "3\nroot 1 2 3 0 0 0\nupper 0 0 0\nfore 90\n"
        "4\nroot 0 0 0 0 90 0\nupper 90 0 90\nfore 0\n"
    )
    return asf, amc


def test_positions_of_two_bones_are_those_computed_by_hand(arm: tuple[Path, Path]) -> None:
    points = read_amc(arm[1], read_asf(arm[0])).points() / METRE
    start = np.array([1.0, 2.0, 3.0])
    # At rest both bones lie along x.
    np.testing.assert_allclose(points[0, 1:] - start, [[2, 0, 0], [3, 0, 0]], atol=1e-12)
    # Upper turned 90 degrees about z: both point along y.
    np.testing.assert_allclose(points[1, 1:] - start, [[0, 2, 0], [0, 3, 0]], atol=1e-12)
    # Fore turned 90 degrees about its frame's x, which is the world's y: x goes to -z.
    np.testing.assert_allclose(points[2, 1:] - start, [[2, 0, 0], [2, 0, -1]], atol=1e-12)
    # Upper first about x (leaves the bone), then z (to y); about y the root turns nothing.
    np.testing.assert_allclose(points[3, 1:], [[0, 2, 0], [0, 3, 0]], atol=1e-12)


def human_asf(stature: float = 1.74) -> str:
    """The built-in body written with the CMU database's names; knees have an axis frame."""
    names = {"abdomen": "lowerback", "chest": "thorax", "neck": "upperneck", "head": "head"}
    for side in ("left", "right"):
        for ours, theirs in (
            ("hip", "hipjoint"),
            ("thigh", "femur"),
            ("shin", "tibia"),
            ("foot", "foot"),
            ("shoulder", "clavicle"),
            ("upper_arm", "humerus"),
            ("forearm", "radius"),
            ("hand", "hand"),
        ):
            names[f"{side}_{ours}"] = side[0] + theirs
    skeleton = human_skeleton(stature)
    bones, lines = [], []
    for j, name in enumerate(BONES, start=1):
        vector = skeleton.vectors[j]
        length = np.linalg.norm(vector)
        direction = " ".join(f"{v:.9f}" for v in vector / length)
        axis = "10 20 30" if name.endswith("shin") else "0 0 0"
        bones.append(bone(names[name], direction, length / METRE, axis, "rx ry rz"))
        parent = PARENTS[j - 1]
        lines.append(f"{names[BONES[parent]] if parent >= 0 else 'root'} {names[name]}")
    return asf_text(bones, "\n".join(lines))


def human_amc(asf: Path, frames: int, seed: int = 0) -> str:
    names = read_asf(asf).skeleton.names[1:]
    rng = np.random.default_rng(seed)
    start, rate = rng.normal(0, 10, (len(names), 3)), rng.normal(0, 0.1, (len(names), 3))
    lines = [":FULLY-SPECIFIED", ":DEGREES"]
    for t in range(frames):
        lines += [str(t + 1), f"root 0 17 {t * 0.1:.4f} 0 0 0"]
        for name, angles in zip(names, start + t * rate, strict=True):
            lines.append(name + " " + " ".join(f"{a:.4f}" for a in angles))
    return "\n".join(lines) + "\n"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder with one subject and one clip of 2 s."""
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "07.asf").write_text(human_asf())
    (folder / "07_01.amc").write_text(human_amc(folder / "07.asf", 241))
    return folder


def matrix(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return turn


def test_bvh_of_the_same_motion_comes_to_the_same_places(people: Path) -> None:
    """R_bvh = C R_amc C^T, with rotations made here by matrices, written as BVH's Z Y X."""
    asf = read_asf(people / "07.asf")
    skeleton = asf.skeleton
    theirs = {
        "lowerback": "LowerBack", "thorax": "Spine", "upperneck": "Neck", "head": "Head",
        "hipjoint": "HipJoint", "femur": "UpLeg", "tibia": "Leg", "foot": "Foot",
        "clavicle": "Shoulder", "humerus": "Arm", "radius": "ForeArm", "hand": "Hand",
    }  # fmt: skip

    def bvh_name(name: str) -> str:
        if name in theirs:
            return theirs[name]
        return {"l": "Left", "r": "Right"}[name[0]] + theirs[name[1:]]

    # A BVH joint stands where its bone starts; the bone's end is the child's offset.
    children: dict[int, list[int]] = {}
    for j, parent in enumerate(skeleton.parents):
        children.setdefault(int(parent), []).append(j)
    order: list[int] = []
    lines: list[str] = ["HIERARCHY", "ROOT Hips"]

    def write(j: int, offset: np.ndarray) -> None:
        order.append(j)
        lines.extend(["{", "OFFSET " + " ".join(f"{v / METRE:.9f}" for v in offset)])
        position = "Xposition Yposition Zposition " if j == 0 else ""
        lines.append(f"CHANNELS {6 if j == 0 else 3} {position}Zrotation Yrotation Xrotation")
        for child in children.get(j, []):
            lines.append(f"JOINT {bvh_name(skeleton.names[child])}")
            write(child, skeleton.vectors[j])
        if j not in children:
            end = " ".join(f"{v / METRE:.9f}" for v in skeleton.vectors[j])
            lines.extend(["End Site", "{", f"OFFSET {end}", "}"])
        lines.append("}")

    write(0, np.zeros(3))
    rows = []
    for frame in (people / "07_01.amc").read_text().split("\nroot ")[1:9]:
        values = {"root": [float(w) for w in frame.split("\n")[0].split()]}
        values |= {
            line.split()[0]: [float(w) for w in line.split()[1:]]
            for line in frame.split("\n")[1:]
            if len(line.split()) > 1
        }
        row = values["root"][:3]
        for j in order:
            x, y, z = values[skeleton.names[j]][-3:]
            turn = matrix(2, z) @ matrix(1, y) @ matrix(0, x)
            if skeleton.names[j].endswith("tibia"):
                axis = matrix(2, 30) @ matrix(1, 20) @ matrix(0, 10)
                turn = axis @ turn @ axis.T
            b = np.degrees(
                [
                    np.arctan2(turn[1, 0], turn[0, 0]),
                    -np.arcsin(turn[2, 0]),
                    np.arctan2(turn[2, 1], turn[2, 2]),
                ]
            )
            row = [*row, *b]
        rows.append(" ".join(f"{v:.9f}" for v in row))
    lines += ["MOTION", f"Frames: {len(rows)}", "Frame Time: 0.0083333", *rows, ""]
    path = people / "same.bvh"
    path.write_text("\n".join(lines))

    bvh, amc = read_bvh(path), read_amc(people / "07_01.amc", asf)
    shown, expected = bvh.points(), amc.points()[:8]
    for name in ("rtibia", "lfemur", "lradius", "thorax"):
        # The end of a bone is where BVH's next joint stands.
        child = next(c for c in children[skeleton.names.index(name)])
        at = bvh.skeleton.names.index(bvh_name(skeleton.names[child]))
        np.testing.assert_allclose(shown[:, at], expected[:, skeleton.names.index(name)], atol=1e-6)


def bvh_text(frames: int, pose_first: bool) -> str:
    """The built-in body, in metres, each joint turned 40 degrees and more about every axis."""
    skeleton = human_skeleton(1.7)
    lines = ["HIERARCHY"]

    def write(j: int) -> None:
        lines.extend([f"{'ROOT' if j == 0 else 'JOINT'} {skeleton.names[j]}", "{"])
        lines.append("OFFSET " + " ".join(str(v) for v in skeleton.vectors[j]))
        lines.append("CHANNELS 3 Zrotation Xrotation Yrotation")
        for child in np.flatnonzero(skeleton.parents == j):
            write(int(child))
        lines.append("}")

    write(0)
    rows = [" ".join([f"{40 + t}"] * 3 * len(skeleton.names)) for t in range(frames)]
    rows = [" ".join(["0"] * 3 * len(skeleton.names))] * pose_first + rows
    return "\n".join([*lines, "MOTION", f"Frames: {len(rows)}", "Frame Time: 0.01", *rows, ""])


def test_bvh_drops_an_added_t_pose(tmp_path: Path) -> None:
    path = tmp_path / "clip.bvh"
    path.write_text(bvh_text(6, pose_first=True))
    with_pose = read_bvh(path)
    path.write_text(bvh_text(6, pose_first=False))
    without = read_bvh(path)
    assert len(with_pose.root) == len(without.root) == 6
    np.testing.assert_array_equal(with_pose.rotations, without.rotations)


def test_a_flip_of_170_degrees_takes_the_short_arc() -> None:
    turns = np.stack([about("Z", 0.0), -about("Z", np.radians(170.0)), about("Z", 0.1)])[:, None]
    skeleton = Skeleton(("root",), np.array([-1]), np.zeros((1, 3)), np.array([0]))
    motion = Motion(skeleton, fps=10.0, root=np.zeros((3, 3)), rotations=turns)
    fine = motion.resampled(0.01).rotations[:, 0]
    angles = np.degrees(2.0 * np.arctan2(fine[:, 3], fine[:, 0]) + np.pi) % 360.0 - 180.0
    np.testing.assert_allclose(angles[:11], np.linspace(0.0, 170.0, 11), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(fine, axis=-1), 1.0, atol=1e-12)
    signs = align_signs(turns)[:, 0]
    assert ((signs[1:] * signs[:-1]).sum(-1) >= 0.0).all()
    same = slerp(turns[0], -turns[0], 0.5)
    np.testing.assert_allclose(np.abs(same), np.abs(turns[0]), atol=1e-12)


def test_builtin_walkers_are_human() -> None:
    library = load_clips(None, 0.02)
    assert library.describe()["source"] == "built-in" and len(library.names) >= 6
    speed = {
        name: np.linalg.norm(library.rows[s : s + n, VELOCITY].sum(0)) / (n * 0.02)
        for name, s, n in zip(library.names, library.start, library.frames, strict=True)
    }
    assert 0.6 < speed["stroll"] < speed["walk"] < speed["brisk walk"] < 2.0 < speed["jog"] < 3.0
    assert speed["wave"] < 0.05
    for _, motion in builtin_motions():
        still = motion.points()
        assert still[:, :, 1].min() > -0.03


def test_directions_have_length_one_at_any_control_step(people: Path) -> None:
    for step in (0.02, 0.1):
        library = load_clips(people, step)
        directions = library.rows[:, DIRECTIONS].reshape(-1, len(BONES), 3)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1.0, atol=1e-5)
        assert library.frames.tolist() == [round(2.0 / step) + 1]


def test_radii_and_sizes_scale_with_the_body() -> None:
    tall = Body.of_lengths(human_skeleton(1.9).rest_lengths(), "tall")
    short = Body.of_lengths(human_skeleton(1.5).rest_lengths(), "short")
    assert tall.leg / short.leg == pytest.approx(1.9 / 1.5)
    np.testing.assert_allclose(tall.radii / short.radii, 1.9 / 1.5)
    assert np.all((tall.radii > 0.8 * RADII) & (tall.radii < 1.2 * RADII))


# --- real clips ---------------------------------------------------------------------------------


def test_real_people_walk_and_stand_as_people_do(shared_mocap: Path) -> None:
    library = load_clips(shared_mocap, 0.02)
    assert len(library.names) >= 30 and library.describe()["source"] == "directory"
    with (shared_mocap / "index.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    walks = [n for n in library.names if rows[n]["description"].split(",")[0] == "walk"]
    assert len(walks) >= 5
    top = np.zeros(len(BONES))
    top[[BONES.index(n) for n in ("abdomen", "chest", "neck", "head")]] = 1.0
    for name in walks:
        i = library.names.index(name)
        clip = library.rows[library.start[i] :][: library.frames[i]]
        path = np.linalg.norm(np.diff(np.cumsum(clip[::10, VELOCITY], 0), axis=0), axis=1) * 10
        assert 0.6 < np.median(path) / 0.2 < 2.2, name
        seconds = library.frames[i] * 0.02
        assert seconds == pytest.approx(
            int(rows[name]["frames"]) / float(rows[name]["fps"]), abs=0.03
        )
        up = clip[:, DIRECTIONS].reshape(len(clip), -1, 3)[..., 2]
        for k in range(len(library.lengths)):
            body = Body(library.lengths[k].astype(float), library.radii[k].astype(float))
            scale = body.leg / library.clip_leg[i]
            height = scale * clip[:, HEIGHT] + library.floor[i, k]
            stature = (
                np.median(height + up @ (top * body.lengths)) + body.radii[BONES.index("head")]
            )
            assert 1.4 < stature < 2.1, (name, k)
            # A walker always has a foot near the floor, and never one far in it.
            feet = lowest(clip, scale, body) + library.floor[i, k]
            assert np.median(feet) < 0.07 and np.percentile(feet, 95) < 0.11, (name, k)
            assert feet.min() > -0.04, (name, k)


def test_clips_without_a_skeleton_are_left_out_with_a_reason(shared_mocap: Path) -> None:
    library = load_clips(shared_mocap, 0.02)
    assert "amc/88_01.amc" in library.skipped
    assert "no skeleton" in library.skipped["amc/88_01.amc"]
    facts = library.describe()
    assert facts["skipped"] == len(library.skipped) and facts["folder"] == shared_mocap.name
    assert not any("/" in str(value) for value in facts.values())


# --- broken files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lfemur ", "lfemur x", "07_01.amc:22: expected a number for bone 'lfemur', found 'x"),
        ("lfemur ", "lfemur nan ", "07_01.amc:22: expected 3 numbers for bone 'lfemur' (rx ry rz)"),
        ("lfemur ", "lfemurs ", "07_01.amc:22: expected a frame number or a bone of the skeleton"),
        ("\nlfemur ", "\n# ", "expected bone 'lfemur' in frame 1"),
        ("root 0 ", "root inf ", "07_01.amc:4: expected a number for bone 'root', found 'inf'"),
        ("root 0 ", "root 1e300 ", "07_01.amc:4: expected a number for bone 'root'"),
    ],
)
def test_a_broken_amc_names_file_and_line(people: Path, old: str, new: str, message: str) -> None:
    clip = people / "07_01.amc"
    text = clip.read_text()
    assert text.splitlines()[21].startswith("lfemur ")
    clip.write_text(text.replace(old, new, 1))
    with pytest.raises(ClipError) as caught:
        load_clips(people, 0.02)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("length 0.45", "length many", "07.asf:3: expected a number for the unit of length"),
        ("angle deg", "angle grad", "07.asf:4: expected angle 'deg' or 'rad'"),
        ("name lfemur", "name", "expected one name of a bone"),
        ("dof rx ry rz", "dof rx rq", "expected dofs among"),
        (":hierarchy", ":hier", "expected a section :hierarchy"),
        ("root lowerback", "root upback", "bone 'upback' has no bone data"),
        ("10 20 30 XYZ", "10 20 30 XYY", "expected an axis order such as XYZ"),
    ],
)
def test_a_broken_asf_names_file_and_line(people: Path, old: str, new: str, message: str) -> None:
    path = people / "07.asf"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ClipError) as caught:
        load_clips(people, 0.02)
    assert message in str(caught.value) and "07.asf:" in str(caught.value)


def test_files_cut_off_or_scrambled_anywhere_give_clip_errors_only(
    people: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    asf = read_asf(people / "07.asf")
    whole = {
        ".asf": (people / "07.asf").read_bytes(),
        ".amc": (people / "07_01.amc").read_bytes()[:9000],
        ".bvh": bvh_text(20, pose_first=True).encode(),
    }
    read = {".asf": read_asf, ".amc": lambda p: read_amc(p, asf), ".bvh": read_bvh}
    errors = 0
    for suffix, content in whole.items():
        path = tmp_path / f"broken{suffix}"
        for _ in range(80):
            damaged = bytearray(content[: rng.integers(len(content))])
            for _ in range(rng.integers(3)):
                if damaged:
                    damaged[rng.integers(len(damaged))] = rng.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                read[suffix](path)
            except ClipError as error:
                errors += 1
                assert str(path) in str(error)
    assert errors > 200


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "HIERARCH", ":1: expected HIERARCHY"),
        ("CHANNELS 3 Z", "CHANNELS 2 Z", ":5: expected CHANNELS, how many, and names"),
        (
            "OFFSET 0.0",
            "OFFSET zero",
            ":4: expected a number for the offset of 'root', found 'zero'",
        ),
        ("Frames: 20", "Frames: 21", "expected 21 frames, found 20"),
        ("Frame Time: 0.01", "Frame Time: 0", "expected a frame time from 0.0001 to 1 second"),
        ("\n41 ", "\n41 41 ", "expected 63 numbers for the channels, found 64"),
        ("\n41 ", "\n4l ", "expected a number for a channel, found '4l'"),
    ],
)
def test_a_broken_bvh_names_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "wave.bvh"
    path.write_text(bvh_text(20, pose_first=False).replace(old, new, 1))
    with pytest.raises(ClipError) as caught:
        load_clips(tmp_path, 0.02)
    assert message in str(caught.value) and "wave.bvh:" in str(caught.value)


def test_a_folder_with_nothing_to_play_says_what_to_do(tmp_path: Path, people: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        if folder == tmp_path:
            (people / "07_01.amc").unlink()
        with pytest.raises(ClipError, match=r"SAFETRANSFER_MOCAP.*mocap download.*built-in"):
            load_clips(folder, 0.02)
    (people / "99_01.amc").write_text("1\nroot 0 0 0 0 0 0\n")
    (people / "98.asf").write_text((people / "07.asf").read_text())
    with pytest.raises(ClipError, match="no skeleton"):
        load_clips(people, 0.02)


def test_skeletons_are_found_by_index_name_subject_and_neighbour(people: Path) -> None:
    text = (people / "07_01.amc").read_text()
    (people / "deep").mkdir()
    (people / "deep" / "7_02.amc").write_text(text)
    (people / "free.amc").write_text(text)
    found = {c.path.name: c for c in find_clips(people).clips}
    assert {c.asf for c in found.values()} == {people / "07.asf"}
    (people / "other.asf").write_text((people / "07.asf").read_text())
    (people / "index.csv").write_text("file,fps,asf\n07_01.amc,60,other.asf\n")
    found = {c.path.name: c for c in find_clips(people).clips}
    assert found["07_01.amc"].asf == people / "other.asf" and found["07_01.amc"].fps == 60.0
    assert found["7_02.amc"].fps == 120.0 and "free.amc" not in found
    # One beside a clip comes before one of the same name elsewhere.
    (people / "deep" / "07.asf").write_text((people / "07.asf").read_text())
    found = {c.path.name: c for c in find_clips(people).clips}
    assert found["7_02.amc"].asf == people / "deep" / "07.asf"
    assert found["07_01.amc"].asf == people / "other.asf"
    (people / "index.csv").write_text("file,fps,asf\n07_01.amc,often,other.asf\n")
    with pytest.raises(ClipError, match=r"index\.csv:2"):
        find_clips(people)


def test_what_other_systems_leave_in_files_and_folders(people: Path) -> None:
    whole = load_clips(people, 0.02)
    (people / "._07_01.amc").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    for name in ("07_01.amc", "07.asf"):
        path = people / name
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    (people / "index.csv").write_text("file,fps\n07_01.amc,120\n", encoding="utf-8-sig")
    assert load_clips(people, 0.02).names == whole.names


def test_clips_that_changed_are_read_again_by_a_new_environment(people: Path) -> None:
    settings = HallwaySettings(obstacles="Humanoids", people=1, mocap=str(people))
    first = HallwayVectorEnv(settings)
    (people / "07_02.amc").write_text((people / "07_01.amc").read_text())
    second = HallwayVectorEnv(settings)
    assert second.mocap["clips"] == first.mocap["clips"] + 1


# --- download -----------------------------------------------------------------------------------


class _Database(BaseHTTPRequestHandler):
    """Serves NN/NN.asf and NN/NN_TT.amc of a flat store; hangs up early `cuts` times."""

    store: ClassVar[dict[str, bytes]]
    cuts: ClassVar[int]
    requests: ClassVar[list[tuple[str, str | None]]]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).requests.append((self.path, asked))
        content = self.store.get(self.path)
        if content is None:
            self.send_error(404, "Not Found")
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start >= len(content) > 0:
            self.send_error(416, "Range Not Satisfiable")
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if type(self).cuts > 0 and self.path.endswith(".amc"):
            type(self).cuts -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def database(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, type[_Database]]]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Handler(_Database):
        pass

    Handler.store = {f"/subjects/07/{p.name}": p.read_bytes() for p in people.glob("*.a*")}
    Handler.cuts = 0
    Handler.requests = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/subjects", Handler
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(database: tuple[str, type[_Database]], folder: Path, **more: object) -> list[Path]:
    options: dict[str, Any] = {"base_url": database[0], "pause": 0.0, "verify": False, **more}
    said: list[str] = []
    trials = options.pop("trials", ["07_01"])
    paths = download(folder, trials, **options | {"say": said.append})
    assert "NSF EIA-0196217" in said[0]
    return paths


def test_a_download_cut_off_twice_goes_on_and_plays(
    database: tuple[str, type[_Database]], tmp_path: Path
) -> None:
    server = database[1]
    server.cuts = 2
    folder = tmp_path / "down"
    seen: list[tuple[str, int]] = []
    paths = fetch(database, folder, progress=lambda name, have, total: seen.append((name, have)))
    assert [p.relative_to(folder).as_posix() for p in paths] == ["07/07.asf", "07/07_01.amc"]
    for path in paths:
        assert path.read_bytes() == server.store[f"/subjects/07/{path.name}"]
    ranges = [asked for path, asked in server.requests if path.endswith(".amc")]
    size = len(server.store["/subjects/07/07_01.amc"])
    assert ranges == [None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]
    assert seen[-1] == ("07_01.amc", size)
    assert load_clips(folder, 0.02).names == ("07/07_01.amc",)

    # Again: nothing is asked for. Damaged on disk: that file alone is.
    del server.requests[:]
    fetch(database, folder)
    assert server.requests == []
    paths[1].write_bytes(b"damage")
    fetch(database, folder)
    assert server.requests == [("/subjects/07/07_01.amc", None)]


def test_a_download_that_gives_up_keeps_what_came(
    database: tuple[str, type[_Database]], tmp_path: Path
) -> None:
    server = database[1]
    server.cuts = 2
    with pytest.raises(ClipError, match=r"gave up after 2 tries \(cut off after .*goes on from"):
        fetch(database, tmp_path / "down", retries=1)
    part = tmp_path / "down" / "07" / "07_01.amc.part"
    assert part.stat().st_size > 1000 and not part.with_suffix("").exists()
    fetch(database, tmp_path / "down", retries=0)
    assert not part.exists()
    assert part.with_suffix("").read_bytes() == server.store["/subjects/07/07_01.amc"]


def test_what_is_not_the_known_file_is_refused(
    database: tuple[str, type[_Database]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = database[1]
    from safetransfer.envs.mocap import download as module

    known = {
        path.rpartition("/")[2]: hashlib.sha256(content).hexdigest()
        for path, content in server.store.items()
    }
    monkeypatch.setattr(module, "CMU_SHA256", known)
    # A part of something else is found out, and the file comes whole; so do other line ends.
    (tmp_path / "down" / "07").mkdir(parents=True)
    (tmp_path / "down" / "07" / "07_01.amc.part").write_bytes(b"something else")
    asf = server.store["/subjects/07/07.asf"]
    server.store["/subjects/07/07.asf"] = asf.replace(b"\n", b"\r\n")
    fetch(database, tmp_path / "down", verify=True)
    server.store["/subjects/07/07_01.amc"] += b"1\n"
    with pytest.raises(ClipError, match="SHA-256 differs"):
        fetch(database, tmp_path / "else", verify=True)
    assert not (tmp_path / "else" / "07" / "07_01.amc").exists()
    # Nor is one that was taken as it was once, when it is to be verified again.
    fetch(database, tmp_path / "else", verify=False)
    with pytest.raises(ClipError, match="SHA-256 differs"):
        fetch(database, tmp_path / "else", verify=True)


def test_download_errors_are_clear(database: tuple[str, type[_Database]], tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"07_09\.amc: the server answers 404"):
        fetch(database, tmp_path, trials=["07_09"])
    with pytest.raises(SettingError, match="expected a trial such as '02_01'"):
        fetch(database, tmp_path, trials=["../07"])
    with pytest.raises(SettingError, match="http"):
        download(tmp_path, base_url="file:///etc")
    with pytest.raises(ClipError, match="gave up after 1 tries"):
        download(tmp_path, base_url="http://127.0.0.1:9/none", retries=0, say=lambda _: None)


def test_the_default_download_is_what_the_table_of_checksums_knows(shared_mocap: Path) -> None:
    from safetransfer.envs.mocap.checksums import CMU_SHA256

    assert len(DEFAULT_TRIALS) >= 25
    for trial in DEFAULT_TRIALS:
        for path in (f"amc/{trial}.amc", f"asf/{trial.partition('_')[0]}.asf"):
            content = (shared_mocap / path).read_bytes().replace(b"\r", b"")
            assert hashlib.sha256(content).hexdigest() == CMU_SHA256[Path(path).name]
