"""Films of an agent at work: from behind, through its camera, and as the agent sees."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import imageio_ffmpeg
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from PIL import Image, ImageDraw, ImageFont

from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.naming import EnvSettings
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError, UnknownNameError
from safetransfer.training.build import shapes_of
from safetransfer.training.evaluate import Policy, check_shapes, environment_settings, load_policy

VIEWS = ("both", "behind", "first")

_FRAMES_PER_SECOND = 25  # of an mp4; a GIF has less than half, at less than two thirds of the size
_GIF_FRAMES_PER_SECOND, _GIF_SCALE, _GIF_COLOURS = 10, 0.6, 256
_HOLD_SECONDS = 0.8  # a last look at the end of an episode
_RED_SECONDS = 0.3  # a touch of one step would go unseen

_BAR = 40
_WHITE, _GREY, _RED, _DARK = (240, 243, 246), (150, 160, 170), (230, 40, 40), (18, 22, 27)


def film(
    agent_path: str | Path,
    env_name: str,
    out: str | Path,
    view: str = "both",
    episodes: int = 1,
    seed: int = 0,
    *,
    mocap: str | None = None,
    speed: float = 2.0,
    noise: float | None = None,
) -> Path:
    """Films a kept agent in a hallway, and returns `out`, an .mp4 or a .gif by its suffix.

    Args:
        agent_path: a checkpoint, or a run directory that holds one.
        env_name: short name of the hallway, such as "PointPoles".
        view: "behind" the robot, "first" person with what the agent sees, or "both".
        episodes: filmed one after the other, each from the start line.
        seed: of the hallway, and of the policy's noise.
        mocap: folder of clips that people move by; None: built-in motions.
        speed: seconds of the hallway in a second of the film.
        noise: share of its exploration that the agent acts with, from 0 (by its mode) to 1; None:
            as its settings say.

    The film appears under its name only when it is whole. Raises UnknownNameError for a view or an
    environment, SettingError for another suffix, CheckpointError for an agent that cannot be read
    or that drives another robot.
    """
    out = Path(out)
    if view not in VIEWS:
        raise UnknownNameError("view", view, VIEWS)
    if out.suffix not in (".mp4", ".gif"):
        raise SettingError(f"a film is an .mp4 or a .gif, not {out.name}")
    if episodes < 1:
        raise SettingError(f"a film needs one episode or more, not {episodes}")
    if not 0 < speed < math.inf:
        raise SettingError(f"a film needs a speed above 0, not {speed:g}")
    if not out.parent.is_dir():
        out.parent.mkdir(parents=True)  # before anything is loaded, that it is known to work
    elif out.is_dir() or not os.access(out.parent, os.W_OK):
        raise SettingError(f"no film can be written at {out}")
    policy, settings = _agent_there(agent_path, env_name, mocap, noise)
    if isinstance(settings, GymSettings):
        from safetransfer.report.gym_film import film_gym

        return film_gym(policy, settings, out, episodes, seed, speed)
    env = _hallway(policy, settings)
    steps_per_second = env.metadata["render_fps"] * speed
    wanted = _GIF_FRAMES_PER_SECOND if out.suffix == ".gif" else _FRAMES_PER_SECOND
    every = max(1, round(steps_per_second / wanted))
    rate = steps_per_second / every

    partial = out.with_name(f".{out.stem}.part{out.suffix}")
    picture = _Picture(view, env.settings.name, env.metadata["render_fps"], speed)
    rng = np.random.default_rng(seed)
    try:
        with film_writer(partial, picture.size, rate) as writer:
            for episode in range(episodes):
                first_seed = seed if episode == 0 else None
                for moment in play(env, policy, first_seed, rng):
                    shown = moment.step % every == 0 or moment.ended
                    picture.look(moment)
                    if shown:
                        frame = picture.draw(env, moment)
                        for _ in range(round(_HOLD_SECONDS * rate) if moment.ended else 1):
                            writer.add(frame)
        os.replace(partial, out)
    finally:
        env.close()
        partial.unlink(missing_ok=True)
    return out


# --- One episode --------------------------------------------------------------------------------


def open_hallway(
    agent_path: str | Path, env_name: str, mocap: str | None, noise: float | None = None
) -> tuple[HallwayVectorEnv, Policy]:
    """One hallway and the agent to play in it.

    Raises SettingError for an environment that is no hallway, CheckpointError where the agent
    cannot play there.
    """
    policy, settings = _agent_there(agent_path, env_name, mocap, noise)
    if isinstance(settings, GymSettings):
        raise SettingError(f"{settings.name} is not one of our hallways, which are all it can show")
    return _hallway(policy, settings), policy


def _agent_there(
    agent_path: str | Path, env_name: str, mocap: str | None, noise: float | None = None
) -> tuple[Policy, EnvSettings]:
    # A second thread costs a network this small, one hallway at a time, more than it brings.
    torch.set_num_threads(1)
    policy = load_policy(agent_path, noise)
    return policy, environment_settings(policy, env_name, mocap=mocap)


def _hallway(policy: Policy, settings: HallwaySettings) -> HallwayVectorEnv:
    env = HallwayVectorEnv(settings, autoreset_mode=AutoresetMode.DISABLED)
    check_shapes(policy, shapes_of(env), settings.name)
    return env


class Moment:
    """An episode after a step: what the agent sees, and what it has gathered so far."""

    def __init__(self, seen: np.ndarray):
        self.seen = seen  # uint8 (H, W, C)
        self.step = 0  # steps of the environment, each of action_repeat control steps
        self.control_steps = 0
        self.episode_return = 0.0
        self.cost = 0.0
        self.touching = False
        self.ended = False


def play(
    env: HallwayVectorEnv, policy: Policy, seed: int | None, rng: np.random.Generator
) -> Iterator[Moment]:
    """Plays one episode; yields the one moment, updated, at its start and after each step."""
    obs, _ = env.reset(seed=seed)
    carry = policy.initial_carry(1)
    reward, cost = np.zeros((2, 1), np.float32)
    moment = Moment(obs["camera"][0])
    yield moment
    while not moment.ended:
        action, carry = policy.act(obs, reward, cost, carry, rng)
        obs, step_reward, terminated, truncated, info = env.step(action)
        reward, cost = step_reward.astype(np.float32), info["cost"].astype(np.float32)
        moment.seen = obs["camera"][0]
        moment.step += 1
        moment.control_steps = int(info["steps"][0])
        moment.episode_return += float(step_reward[0])
        moment.cost += float(info["cost"][0])
        moment.touching = bool(info["touched"][0])
        moment.ended = bool(terminated[0] or truncated[0])
        yield moment


# --- One picture --------------------------------------------------------------------------------


class _Picture:
    """Lays out a frame: the views beside each other, and a bar with figures below them."""

    def __init__(self, view: str, env_name: str, steps_per_second: float, speed: float):
        self.view, self.env_name, self.steps_per_second = view, env_name, steps_per_second
        self.pace = "" if speed == 1 else f"{speed:g}x"
        self.size = (480 if view == "behind" else 672 if view == "both" else 720, 360 + _BAR)
        self.small, self.large = ImageFont.load_default(13), ImageFont.load_default(17)
        self._red_until = -1.0

    def look(self, moment: Moment) -> None:
        """Notes a touch, so that it shows also when it falls between two frames."""
        if moment.step == 0:
            self._red_until = -1.0
        if moment.touching:
            self._red_until = moment.step + _RED_SECONDS * self.steps_per_second

    def draw(self, env: HallwayVectorEnv, moment: Moment) -> Image.Image:
        canvas = Image.new("RGB", self.size, _DARK)
        draw = ImageDraw.Draw(canvas)
        for (x, y, width, height), label, pixels in self._panels(env, moment.seen):
            panel = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(panel, (x, y))
            extent = draw.textlength(label, self.small)
            low = y + height - 20  # on the floor, where it hides least
            draw.rectangle((x, low, x + extent + 12, low + 20), fill=_DARK)
            draw.text((x + 6, low + 2), label, _WHITE, self.small)
        touching = moment.step <= self._red_until
        if touching:
            draw.rectangle((0, 0, self.size[0] - 1, 359), outline=_RED, width=6)
        self._bar(draw, moment, touching)
        return canvas

    def _panels(
        self, env: HallwayVectorEnv, seen: np.ndarray
    ) -> list[tuple[tuple[int, int, int, int], str, np.ndarray]]:
        """Place (x, y, width, height), label and pixels of each view."""
        agents = np.repeat(seen, 3, axis=2) if seen.shape[2] == 1 else seen
        agents_label = "seen by the agent: distance" if seen.shape[2] == 1 else "seen by the agent"
        if self.view == "first":
            first = env.film_frame(0, "first", 360, 360)
            return [
                ((0, 0, 360, 360), "through its camera", first),
                ((360, 0, 360, 360), agents_label, agents),
            ]
        behind = ((0, 0, 480, 360), self.env_name, env.film_frame(0, "behind", 480, 360))
        if self.view == "behind":
            return [behind]
        first = env.film_frame(0, "first", 180, 180)
        return [
            behind,
            ((492, 0, 180, 180), "through its camera", first),
            ((492, 180, 180, 180), agents_label, agents),
        ]

    def _bar(self, draw: ImageDraw.ImageDraw, moment: Moment, touching: bool) -> None:
        seconds = moment.step / self.steps_per_second
        figures = [
            ("step", f"{moment.control_steps}", _WHITE),
            ("time", f"{seconds:.1f} s", _WHITE),
            ("return", f"{moment.episode_return:.0f}", _WHITE),
            ("cost", f"{moment.cost:.0f}", _RED if moment.cost else _WHITE),
        ]
        x = 10.0
        for name, value, ink in figures:
            draw.text((x, 373), name, _GREY, self.small)
            x += draw.textlength(name, self.small) + 7
            draw.text((x, 370), value, ink, self.large)
            x += 62  # room for four digits
        corner = (self.size[0] - 10, 370)
        if touching:
            draw.text(corner, "contact", _RED, self.large, anchor="ra")
        else:
            draw.text(corner, self.pace, _GREY, self.large, anchor="ra")


# --- Writing ------------------------------------------------------------------------------------


class FilmWriter(Protocol):
    def add(self, frame: Image.Image) -> None: ...

    def __enter__(self) -> FilmWriter: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def film_writer(path: Path, size: tuple[int, int], rate: float) -> FilmWriter:
    """Writes the frames added to it into a .gif, or else an H.264 film."""
    return _Gif(path, size, rate) if path.suffix == ".gif" else _Mp4(path, size, rate)


class _Mp4:
    """H.264 that every browser plays, its index in front so that it starts at once."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float):
        self.path = path
        self._frames: Any = imageio_ffmpeg.write_frames(
            str(path),
            size,
            fps=rate,
            quality=None,
            macro_block_size=8,
            output_params=["-crf", "30", "-preset", "slow", "-movflags", "+faststart"],
        )
        self._frames.send(None)

    def add(self, frame: Image.Image) -> None:
        try:
            self._frames.send(frame.tobytes())
        except OSError as error:  # ffmpeg has ended: the disk is full, or nothing can be written
            where = self.path.parent
            raise SettingError(f"ffmpeg stopped writing a film in {where}: {error}") from error

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()


class _Gif:
    """A smaller and slower film, for places that show no video."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float):
        self.path, self.milliseconds = path, 1000 / rate
        self.size = (round(size[0] * _GIF_SCALE), round(size[1] * _GIF_SCALE))
        self._frames: list[Image.Image] = []

    def add(self, frame: Image.Image) -> None:
        self._frames.append(frame.resize(self.size, Image.Resampling.LANCZOS))

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            # One palette for all frames: with its own for each, colours would change in between.
            every = max(1, len(self._frames) // 12)
            sample = self._frames[::every]
            sheet = Image.new("RGB", (self.size[0], self.size[1] * len(sample)))
            for k, frame in enumerate(sample):
                sheet.paste(frame, (0, k * self.size[1]))
            palette = sheet.quantize(_GIF_COLOURS)
            first, *rest = (
                frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames
            )
            first.save(
                self.path,
                save_all=True,
                append_images=rest,
                duration=self.milliseconds,
                loop=0,
                optimize=True,
            )
