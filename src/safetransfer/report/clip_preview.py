"""A motion-capture clip to look at, as people in the hallways play it: a film, or a strip."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safetransfer.envs.camera import Camera, Scene, look_at
from safetransfer.envs.mocap.clips import FACING, ClipLibrary, load_clip
from safetransfer.envs.people import perform
from safetransfer.errors import SettingError
from safetransfer.report.film import film_writer

CONTROL_DT = 0.02
"""Clips are cut to the Point's control step, seconds."""
_FRAMES_PER_SECOND = {".mp4": 25, ".gif": 10}
_FILM_SIZE, _STILL_SIZE, _BAR = (480, 400), (240, 360), 32
_FAR, _FOVY = 40.0, 40.0
_SKIN, _SHIRT, _TROUSERS = (222, 178, 146), (70, 110, 190), (72, 78, 96)
_INK, _GREY, _DARK = (240, 243, 246), (150, 160, 170), (18, 22, 27)


def preview_clip(
    name: str, out: str | Path, mocap: str | Path | None = None, stills: int = 8
) -> Path:
    """Shows a clip, and returns `out`: an .mp4 or a .gif film, or a .png strip of `stills`.

    `mocap` is the folder of the clip; None: a built-in motion. The camera keeps beside the person,
    the floor's squares are half a metre. UnknownNameError for a clip that is not there, ClipError
    for one that cannot be used, SettingError for another suffix.
    """
    out = Path(out)
    if out.suffix not in (*_FRAMES_PER_SECOND, ".png"):
        raise SettingError(f"a preview is a film (.mp4, .gif) or a strip (.png), not {out.name}")
    if stills < 1:
        raise SettingError(f"a strip needs one still or more, not {stills}")
    library = load_clip(mocap, name, CONTROL_DT)
    studio = _Studio(library)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        if out.suffix == ".png":
            studio.strip(np.linspace(0, studio.frames - 1, stills).round().astype(int)).save(
                partial
            )
        else:
            rate = _FRAMES_PER_SECOND[out.suffix]
            every = round(1 / (CONTROL_DT * rate))
            width, height = _FILM_SIZE
            with film_writer(partial, (width, height + _BAR), rate) as writer:
                for t in range(0, studio.frames, every):
                    writer.add(studio.picture(t, _FILM_SIZE, library.names[0]))
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return out


class _Studio:
    """A person on a checkered floor, and a camera that keeps beside them."""

    def __init__(self, library: ClipLibrary):
        from safetransfer.envs.mocap.skeleton import BONES

        self.a, self.b, radii = perform(library)
        self.frames = len(self.a)
        self.scene = Scene(1, planes=1, capsules=len(radii))
        self.scene.plane_normal[0, 0] = (0, 0, 1)
        self.scene.capsule_radius[0] = radii
        self.scene.capsule_color[0] = [_cloth(bone) for bone in BONES]
        heading = float(library.rows[0, FACING])
        # From the front and the side of where they first face, so that a walk shows in profile.
        turn = heading + np.radians(60.0)
        self.away = 3.6 * np.array([np.cos(turn), np.sin(turn)])
        # A camera that followed every sway would make the floor sway instead.
        reach = round(0.5 / CONTROL_DT)
        kernel = np.hanning(2 * reach + 3)[1:-1]
        padded = np.pad(self.a[:, 0, :2], ((reach, reach), (0, 0)), mode="edge")
        smooth = [np.convolve(padded[:, k], kernel / kernel.sum(), "valid") for k in (0, 1)]
        self.path = np.stack(smooth, axis=1)
        self.small, self.large = ImageFont.load_default(13), ImageFont.load_default(15)

    def picture(
        self, t: int, size: tuple[int, int], label: str = "", samples: int = 1
    ) -> Image.Image:
        """Frame t with a bar below it that says when it is; `samples` smooth its edges."""
        width, height = size
        self.scene.capsule_a[0], self.scene.capsule_b[0] = self.a[t], self.b[t]
        eye = np.append(self.path[t] + self.away, 1.3)
        axes = look_at(eye, np.append(self.path[t], 0.85))
        lens = Camera(width, height, _FOVY, _FAR)
        canvas = Image.new("RGB", (width, height + _BAR), _DARK)
        pixels = lens.color(self.scene, eye, axes, shadows=True, samples=samples)[0]
        canvas.paste(Image.fromarray(pixels), (0, 0))
        draw = ImageDraw.Draw(canvas)
        draw.text((10, height + 8), f"{t * CONTROL_DT:.2f} s", _INK, self.large)
        if label:
            draw.text((width - 10, height + 9), label, _GREY, self.small, anchor="ra")
        return canvas

    def strip(self, moments: Sequence[int] | np.ndarray) -> Image.Image:
        """Stills beside each other, from the left."""
        stills = [self.picture(int(t), _STILL_SIZE, samples=2) for t in moments]
        gap = 4
        width, height = stills[0].size
        strip = Image.new("RGB", ((width + gap) * len(stills) - gap, height), _INK)
        for k, still in enumerate(stills):
            strip.paste(still, (k * (width + gap), 0))
        return strip


def _cloth(bone: str) -> tuple[int, int, int]:
    if bone.endswith(("hip", "thigh", "shin", "knee", "foot", "toe", "ankle")):
        return _TROUSERS
    return _SKIN if bone.endswith(("head", "neck", "hand", "forearm", "wrist")) else _SHIRT
