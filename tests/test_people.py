"""The crowd: people of constant size who never jump, stay in the hallway and obey their seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from safetransfer.envs.mocap import ClipLibrary, load_clips
from safetransfer.envs.mocap.clips import FACING, HEIGHT, VELOCITY, load_clip
from safetransfer.envs.mocap.skeleton import BONES
from safetransfer.envs.people import MARGIN, Crowd
from safetransfer.errors import SettingError

N, PEOPLE = 3, 20


def crowd_of(library: ClipLibrary, seeds: list[int], **more: float) -> Crowd:
    crowd = Crowd(len(seeds), PEOPLE, library=library, **more)
    crowd.reset(None, [np.random.default_rng(s) for s in seeds], np.zeros((len(seeds), 2)))
    return crowd


@pytest.fixture(scope="module")
def builtin() -> ClipLibrary:
    return load_clips(None, 0.02)


def roots(crowd: Crowd) -> np.ndarray:
    """(N, people, 3): where a person's first bone starts."""
    return crowd.capsule_a.reshape(crowd.num_envs, PEOPLE, len(BONES), 3)[:, :, 0]


def check_two_thousand_steps(crowd: Crowd, fastest: float) -> None:
    """Nobody jumps, changes size, sinks, flies off or leaves, over clip changes and turns."""
    lengths = np.linalg.norm(crowd.capsule_b - crowd.capsule_a, axis=-1)
    last = np.concatenate([crowd.capsule_a, crowd.capsule_b], axis=1)
    clips: set[int] = set()
    low, high = 0.0, 0.0
    for _ in range(2000):
        crowd.step()
        ends = np.concatenate([crowd.capsule_a, crowd.capsule_b], axis=1)
        moved = np.linalg.norm(ends - last, axis=-1).max() / crowd.control_dt
        assert moved < fastest
        last = ends
        place = roots(crowd)
        assert (place[..., 0] >= MARGIN - 1e-5).all() and (
            place[..., 0] <= 24 - MARGIN + 1e-5
        ).all()
        assert (np.abs(place[..., 1]) <= 2.0 - MARGIN + 1e-5).all()
        surface = ends[..., 2] - np.concatenate([crowd.capsule_radius] * 2, axis=1)
        low, high = min(low, surface.min()), max(high, surface.max())
        clips |= set(crowd.get_state()["clip"].ravel().tolist())
    np.testing.assert_allclose(
        np.linalg.norm(crowd.capsule_b - crowd.capsule_a, axis=-1), lengths, atol=1e-4
    )
    assert np.isfinite(last).all() and low > -0.25 and high < 3.0
    assert len(clips) == len(crowd.library.names)


def test_builtin_people_never_jump_and_stay(builtin: ClipLibrary) -> None:
    # A jogger's foot swings forward at some 10 m/s.
    check_two_thousand_steps(crowd_of(builtin, [0, 1, 2]), fastest=13.0)


def test_real_people_never_jump_and_stay(shared_mocap: Path) -> None:
    # The library holds a backflip and kicks: hands and feet of 15 m/s and more.
    library = load_clips(shared_mocap, 0.02)
    check_two_thousand_steps(crowd_of(library, [0, 1, 2]), fastest=25.0)


def test_at_a_clip_change_people_stay_where_they_are(builtin: ClipLibrary) -> None:
    """With motions of standing people only, not even a limb moves faster than a person's."""
    names = ("stand and look", "wave", "squat")
    keep = [builtin.names.index(n) for n in names]
    library = ClipLibrary(
        **{
            **{f: getattr(builtin, f) for f in builtin.__dataclass_fields__},
            "names": names,
            "start": builtin.start[keep],
            "frames": np.array([60, 60, 60]),
            "clip_leg": builtin.clip_leg[keep],
            "floor": builtin.floor[keep],
        }
    )
    crowd = crowd_of(library, [5])
    before = roots(crowd).copy()
    last = crowd.capsule_b.copy()
    for _ in range(300):
        crowd.step()
        # From a raised arm to a hanging one in 0.4 s.
        assert np.linalg.norm(crowd.capsule_b - last, axis=-1).max() / 0.02 < 7.0
        last = crowd.capsule_b.copy()
    np.testing.assert_allclose(roots(crowd)[..., :2], before[..., :2], atol=1e-4)


def test_everybody_is_inside_their_sphere(builtin: ClipLibrary) -> None:
    crowd = crowd_of(builtin, [0, 1])
    for _ in range(50):
        crowd.step()
        for ends in (crowd.capsule_a, crowd.capsule_b):
            ends = ends.reshape(2, PEOPLE, len(BONES), 3)
            away = np.linalg.norm(ends - crowd.center[:, :, None], axis=-1)
            away += crowd.capsule_radius.reshape(2, PEOPLE, len(BONES))
            assert (away <= crowd.radius[..., None] + 1e-5).all()
    assert crowd.radius.max() < 1.4


def test_nobody_starts_on_the_robot_and_all_have_room(builtin: ClipLibrary) -> None:
    crowd = Crowd(16, PEOPLE, library=builtin)
    robots = np.random.default_rng(3).uniform([0, -1], [24, 1], (16, 2))
    crowd.reset(None, [np.random.default_rng(i) for i in range(16)], robots, clear_radius=0.5)
    for ends in (crowd.capsule_a, crowd.capsule_b):
        away = np.linalg.norm(ends[..., :2] - robots[:, None], axis=-1) - crowd.capsule_radius
        assert away.min() >= 0.5 - 1e-5
    place = roots(crowd)
    apart = np.linalg.norm(place[:, :, None, :2] - place[:, None, :, :2], axis=-1)
    assert np.percentile(apart[:, *np.triu_indices(PEOPLE, 1)].min(axis=1), 50) > 0.5
    assert place[..., 0].std() > 5.0


def test_equal_seeds_give_equal_people_whatever_the_others_do(builtin: ClipLibrary) -> None:
    alone = crowd_of(builtin, [7])
    among = crowd_of(builtin, [1, 7, 2])
    rngs = [np.random.default_rng(100 + i) for i in range(3)]
    for t in range(700):
        alone.step()
        among.step(np.array([t % 2 == 0, True, True]))
        if t % 100 == 50:
            among.reset(np.array([True, False, t % 200 == 50]), rngs, np.ones((3, 2)))
        np.testing.assert_array_equal(alone.capsule_b[0], among.capsule_b[1])
    assert np.abs(among.capsule_b[0] - among.capsule_b[1]).max() > 1.0


def test_a_step_of_three_is_three_steps(builtin: ClipLibrary) -> None:
    one, three = crowd_of(builtin, [4]), crowd_of(builtin, [4])
    for _ in range(400):
        three.step(steps=3)
        for _ in range(3):
            one.step()
    np.testing.assert_array_equal(one.capsule_b, three.capsule_b)


def test_a_state_goes_on_exactly(builtin: ClipLibrary) -> None:
    crowd = crowd_of(builtin, [1, 2])
    for _ in range(333):
        crowd.step()
    state = crowd.get_state()
    other = crowd_of(builtin, [8, 9])
    other.set_state(state)
    for _ in range(500):
        crowd.step()
        other.step()
    for name, value in crowd.get_state().items():
        np.testing.assert_array_equal(value, other.get_state()[name])
    with pytest.raises(SettingError):
        Crowd(3, PEOPLE, library=builtin).set_state(state)


def test_who_walks_at_a_wall_turns_and_walks_on(builtin: ClipLibrary) -> None:
    """Walkers only: after a while most walk about, not on the spot against a wall."""
    crowd = crowd_of(builtin, [0, 1, 2, 3], length=8.0)
    held = 0
    since = np.zeros((4, PEOPLE))  # steps in which they have walked on the spot
    for _ in range(1500):
        crowd.step()
        state = crowd.get_state()
        speed = np.linalg.norm(state["velocity"], axis=-1) / 0.02
        at_wall = np.abs(np.abs(state["root"][..., 1]) - (2.0 - MARGIN)) < 1e-6
        held += int((at_wall & (speed > 0.5) & (np.abs(state["turning"]) == 0)).sum())
        since = np.where(at_wall & (speed > 0.5), since + 1, 0)
        assert since.max() < 150  # half a turn takes 2 s
    assert held < 0.05 * 1500 * 4 * PEOPLE


def test_feet_are_on_the_floor(builtin: ClipLibrary) -> None:
    """Also of clips in which the performer stood 0.3 m lower, as the library's floor says."""
    low = builtin.rows.copy()
    low[:, HEIGHT] -= 0.3
    floor = builtin.floor + 0.3 * builtin.body_leg / builtin.clip_leg[:, None]
    crowd = crowd_of(dataclasses.replace(builtin, rows=low, floor=floor), [0, 1])
    lowest = []
    for _ in range(300):
        crowd.step()
        surface = np.minimum(crowd.capsule_a, crowd.capsule_b)[..., 2] - crowd.capsule_radius
        lowest.append(surface.reshape(2 * PEOPLE, len(BONES)).min(axis=1))
    assert np.abs(np.median(lowest, axis=0)).max() < 0.04


def test_the_next_clip_goes_on_as_fast_and_where_a_person_faces() -> None:
    """Clips of one straight walk, recorded in two directions: nobody turns where they change."""
    walk = load_clip(None, "walk", 0.02)
    c, s = np.cos(2.0), np.sin(2.0)
    other = walk.rows.copy()
    for xy in (*(slice(3 * j, 3 * j + 2) for j in range(len(BONES))), VELOCITY):
        other[:, xy] = walk.rows[:, xy] @ [[c, s], [-s, c]]
    other[:, FACING] += 2.0
    library = dataclasses.replace(
        walk,
        names=("one", "other"),
        rows=np.concatenate([walk.rows, other]),
        start=np.array([0, len(other)]),
        frames=np.array([len(other)] * 2),
        clip_leg=walk.clip_leg.repeat(2),
        floor=walk.floor.repeat(2, axis=0),
    )
    crowd = Crowd(1, 5, library=library, length=2000.0, width=2000.0)
    crowd.reset(None, [np.random.default_rng(0)], np.zeros((1, 2)))
    places, clips = [], set()
    for _ in range(3 * len(other)):
        crowd.step()
        places.append(crowd.capsule_a.reshape(5, len(BONES), 3)[:, 0, :2].astype(float))
        clips |= set(crowd.get_state()["clip"].ravel().tolist())
    assert clips == {0, 1}
    way = np.array(places)[50:] - np.array(places)[:-50]  # of a second each
    assert np.ptp(np.unwrap(np.arctan2(way[..., 1], way[..., 0]), axis=0), axis=0).max() < 0.5
    speed = np.linalg.norm(walk.rows[:, VELOCITY].sum(axis=0)) / (0.02 * len(other))
    assert np.linalg.norm(way, axis=-1).mean() == pytest.approx(speed, rel=0.05)


def test_coarse_control_steps(tmp_path: Path) -> None:
    library = load_clips(None, 0.1)
    check = crowd_of(library, [0])
    last = check.capsule_b.copy()
    for _ in range(300):
        check.step()
        assert np.linalg.norm(check.capsule_b - last, axis=-1).max() / 0.1 < 13.0
        last = check.capsule_b.copy()
    with pytest.raises(SettingError, match=r"0\.1 s, not 0\.02 s"):
        Crowd(1, PEOPLE, library=library, control_dt=0.02)


def test_a_state_of_other_clips_is_refused(builtin: ClipLibrary) -> None:
    """Or people would move by frames that are not there: kernels do not look."""
    crowd = crowd_of(builtin, [1, 2])
    state = crowd.get_state()
    fewer = load_clip(None, builtin.names[0], 0.02)
    other = Crowd(2, PEOPLE, library=fewer)
    with pytest.raises(SettingError, match="other clips"):
        other.set_state(state)
    older = {name: array for name, array in state.items() if name != "clips"}
    with pytest.raises(SettingError, match="other clips"):
        other.set_state(older)
    crowd.step()
    crowd.set_state(older)
    assert np.array_equal(crowd.get_state()["frame"], state["frame"])
