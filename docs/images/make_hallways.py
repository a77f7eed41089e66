"""Draws docs/images/hallways.png: walls, poles and people from behind the robot, drawn on the CPU.

Run from the root of the repository: python docs/images/make_hallways.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.settings import HallwaySettings

WIDTH, HEIGHT, GAP = 420, 300, 12
STEPS = 60  # far enough to leave the start line behind


def picture(obstacles: str, seed: int) -> np.ndarray:
    """The hallway some steps after the start, the robot having driven straight on: (H, W, 3)."""
    env = HallwayVectorEnv(HallwaySettings(obstacles=obstacles))
    env.reset(seed=seed)
    for _ in range(STEPS):
        env.step(np.array([[0.8, 0.0]], np.float32))
    frame = env.film_frame(0, "behind", WIDTH, HEIGHT)
    env.close()
    return frame


def main() -> None:
    pictures = [picture("Walls", 3), picture("Poles", 3), picture("Humanoids", 3)]
    gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    row = np.concatenate([pictures[0], gap, pictures[1], gap, pictures[2]], axis=1)
    Image.fromarray(row).save(Path(__file__).with_name("hallways.png"), optimize=True)


if __name__ == "__main__":
    main()
