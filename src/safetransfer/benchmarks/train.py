"""How fast a laptop trains: collecting and learning side by side, as `safetransfer train` does."""

from __future__ import annotations

import tempfile
from typing import Any

from safetransfer import settings_io
from safetransfer.training.loop import train
from safetransfer.training.machine import describe_machine, versions
from safetransfer.training.settings import preset


def run(epochs: int = 3, epoch_updates: int = 150) -> dict[str, Any]:
    """Trains Point among walls by the laptop preset, from nothing, and leaves nothing behind.

    The first epoch, which fills the replay and warms the caches, is not counted.

    Returns {"steps_per_s" (environment steps, while learning), "sequence_steps_per_s" (decisions
    learned from), "collector_wait_share", "helper_share" (of its time, that the collector
    made gradients), "learner_wait_share", "machine"}; the shares are null where training runs on
    one thread.
    """
    train_settings = {"epochs": epochs, "epoch_updates": epoch_updates, "tensorboard": False}
    settings = settings_io.updated(preset("laptop"), {"train": train_settings})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        train(settings, directory, title="bench train", on_row=rows.append)
    rows = rows[1:]
    updates_per_s = _mean(rows, "updates_per_s")
    assert updates_per_s is not None
    return {
        "steps_per_s": _mean(rows, "steps_per_s"),
        "sequence_steps_per_s": updates_per_s * settings.agent.batch_size * settings.agent.horizon,
        "collector_wait_share": _mean(rows, "collector_wait_share"),
        "helper_share": _mean(rows, "helper_share"),
        "learner_wait_share": _mean(rows, "learner_wait_share"),
        "machine": describe_machine() | versions(),
    }


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return sum(values) / len(values) if values else None
