"""Films of an agent in an environment that is not ours, as that environment draws itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safetransfer.agent.networks import Shapes
from safetransfer.envs.gym_env import AgentView, has_pictures, make_single
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.errors import RenderingError
from safetransfer.training.evaluate import Policy, check_shapes

_LARGEST = 480  # pixels of a picture's longer side in the film
_BAR = 40
_FRAMES_PER_SECOND = 25


def film_gym(
    policy: Policy,
    settings: GymSettings,
    out: Path,
    episodes: int,
    seed: int,
    speed: float,
) -> Path:
    """Films `episodes` episodes and returns `out`, which appears only when it is whole.

    Raises RenderingError for an environment that has no render mode `rgb_array`, or whose rendering
    fails (many need another package, or OpenGL); CheckpointError for an agent of other spaces.
    """
    from safetransfer.report.film import film_writer

    if not has_pictures(settings):
        raise RenderingError(f"{settings.id} cannot be filmed: it has no render mode 'rgb_array'")
    env = make_single(settings, render_mode="rgb_array")
    partial = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        check_shapes(policy, shapes_of_view(env), settings.id)
        rng = np.random.default_rng(seed)
        per_second = float(env.metadata.get("render_fps") or 30) / settings.action_repeat * speed
        every = max(1, round(per_second / _FRAMES_PER_SECOND))
        frames = _frames(env, policy, settings.id, episodes, seed, every, rng)
        first = next(frames)
        with film_writer(partial, first.size, per_second / every) as writer:
            writer.add(first)
            for frame in frames:
                writer.add(frame)
        os.replace(partial, out)
    finally:
        env.close()
        partial.unlink(missing_ok=True)
    return out


def shapes_of_view(view: AgentView) -> Shapes:
    """What an agent gets from one environment, and what it gives."""
    layout = view.layout
    camera = (layout.camera[0], layout.camera[1], layout.camera[2]) if layout.camera else None
    return Shapes(camera, layout.size, len(view.scale.low))


def _frames(
    env: AgentView,
    policy: Policy,
    name: str,
    episodes: int,
    seed: int,
    every: int,
    rng: np.random.Generator,
) -> Iterator[Image.Image]:
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed if episode == 0 else None)
        carry = policy.initial_carry(1)
        reward, cost = np.zeros((2, 1), np.float32)
        total = spent = 0.0
        ended, step = False, 0
        yield _drawn(env, name, step, total, spent)
        while not ended:
            batch = {"proprio": np.zeros((1, 0), np.float32)}
            batch |= {key: value[None] for key, value in obs.items()}
            action, carry = policy.act(batch, reward, cost, carry, rng)
            obs, gained, terminated, truncated, info = env.step(action[0])
            reward, cost = np.array([gained], np.float32), np.array([info["cost"]], np.float32)
            total, spent = total + gained, spent + info["cost"]
            ended, step = terminated or truncated, step + 1
            if ended or step % every == 0:
                yield _drawn(env, name, info["steps"], total, spent)


def _drawn(env: AgentView, name: str, step: int, total: float, spent: float) -> Image.Image:
    """The environment's own picture, with a bar of figures below it."""
    picture = Image.fromarray(_rendered(env, name))
    scale = _LARGEST / max(picture.size)
    # Video codecs want even sides.
    width, height = (max(2, round(side * scale / 2) * 2) for side in picture.size)
    canvas = Image.new("RGB", (max(width, 320), height + _BAR), (18, 22, 27))
    canvas.paste(picture.resize((width, height)), ((canvas.width - width) // 2, 0))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    text = f"step {step}   return {total:.1f}   cost {spent:.1f}"
    draw.text((10, height + 12), text, (240, 243, 246), font)
    return canvas


def _rendered(env: AgentView, name: str) -> np.ndarray:
    try:
        frame: Any = env.render()
    except Exception as error:  # whatever an environment's renderer raises
        raise RenderingError(
            f"{name}: its rendering failed ({type(error).__name__}: {error})"
        ) from error
    frame = np.asarray(frame) if frame is not None else np.zeros(0)
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise RenderingError(f"{name} cannot be filmed: it gives no pictures of mode 'rgb_array'")
    return frame.astype(np.uint8)
