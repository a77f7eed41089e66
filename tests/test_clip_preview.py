"""Previews of clips: the person in them stands on the floor, walks, and is read back from files."""

from __future__ import annotations

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from safetransfer.cli import main
from safetransfer.envs.mocap.clips import load_clip
from safetransfer.envs.mocap.skeleton import BONES
from safetransfer.envs.people import Crowd, perform
from safetransfer.errors import SafeTransferError, SettingError
from safetransfer.report import clip_preview
from safetransfer.report.clip_preview import preview_clip


def test_a_walker_is_upright_with_the_feet_on_the_floor_and_gets_on(shared_mocap):
    a, b, radii = perform(load_clip(shared_mocap, "02_01", 0.02))
    lowest = (np.minimum(a, b)[..., 2] - radii).min(axis=1)
    assert np.abs(lowest).max() < 0.05
    head = b[:, BONES.index("head"), 2]
    assert head.min() > 1.4 and head.max() < 1.9
    way = np.linalg.norm(np.diff(a[:, 0, :2], axis=0), axis=1).sum()
    speed = way / (0.02 * len(a))
    assert 0.9 < speed < 2.0  # a walk; index.csv calls it one
    # The feet do not slide: while a foot is the lower one, it stays about where it is.
    feet = [BONES.index(f"{side}_foot") for side in ("left", "right")]
    tips = b[:, feet]
    lower = tips[..., 2].argmin(axis=1)
    moved = np.linalg.norm(np.diff(tips[:, :, :2], axis=0), axis=2) / 0.02
    stance = moved[np.arange(len(moved)), lower[:-1]]
    assert np.median(stance) < 0.4 * speed


def test_a_performance_is_what_the_crowd_shows():
    library = load_clip(None, "jog", 0.02)
    crowd = Crowd(1, 1, library=library, length=200.0, width=200.0)
    rng = np.random.default_rng(0)
    crowd.reset(None, [rng], np.array([[-50.0, 0.0]]))
    a, _, radii = perform(library)
    frame, yaw, root = crowd._frame[0, 0], crowd._yaw[0, 0], crowd._root[0, 0]
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    ours = (a[frame] - a[frame, 0])[:, :2] @ turn.T
    theirs = (crowd.capsule_a[0] - crowd.capsule_a[0, 0])[:, :2]
    assert theirs == pytest.approx(ours, abs=1e-4)
    assert crowd.capsule_a[0, :, 2] == pytest.approx(a[frame][:, 2], abs=1e-4)
    assert root[2] == pytest.approx(a[frame, 0, 2], abs=1e-4)
    assert crowd.capsule_radius[0] == pytest.approx(radii)


def test_a_strip_has_a_still_for_each_moment(tmp_path):
    path = preview_clip("walk", tmp_path / "strip.png", stills=3)
    assert [p.name for p in tmp_path.iterdir()] == ["strip.png"]
    with Image.open(path) as strip:
        pixels = np.asarray(strip)
    assert pixels.shape == (392, 3 * 240 + 2 * 4, 3)
    stills = [pixels[:360, k * 244 : k * 244 + 240].astype(int) for k in range(3)]
    for still in stills:  # blue cloth in the middle of each
        middle = still[100:200, 60:180]
        assert (middle[..., 2] > middle[..., 0] + 40).sum() > 300
    assert np.abs(stills[0] - stills[1]).mean() > 1


def test_a_film_lasts_as_long_as_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_preview, "_FILM_SIZE", (64, 48))  # what takes time is drawing
    path = preview_clip("jog", tmp_path / "clip.mp4")
    seconds = len(load_clip(None, "jog", 0.02).rows) * 0.02
    facts = next(imageio_ffmpeg.read_frames(str(path)))
    assert facts["size"] == (64, 80)
    assert facts["duration"] == pytest.approx(seconds, abs=0.1)


def test_what_cannot_be_shown_is_refused_and_leaves_nothing(tmp_path, shared_mocap):
    with pytest.raises(SafeTransferError, match=r"Did you mean 'walk'.*Known: .*jog"):
        preview_clip("wolk", tmp_path / "clip.png")
    with pytest.raises(SafeTransferError, match=r"99_99.*amc/02_01\.amc"):
        preview_clip("99_99", tmp_path / "clip.png", shared_mocap)
    with pytest.raises(SettingError, match=r"\.png"):
        preview_clip("walk", tmp_path / "clip.avi")
    with pytest.raises(SettingError, match="one still"):
        preview_clip("walk", tmp_path / "clip.png", stills=0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_what_it_wrote(tmp_path, capsys):
    out = str(tmp_path / "strip.png")
    preview = ["mocap", "preview", "walk", "--mocap", "none"]
    assert main([*preview, "--out", out, "--stills", "2"]) == 0
    assert capsys.readouterr().out.strip() == out
    assert main(preview) == 2
    assert "--out FILE" in capsys.readouterr().err
