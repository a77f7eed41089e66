"""Runs of a transfer that were made with other settings than its plan says, or with other people.

A directory can hold them: a run that was made before the defaults changed, or copied from another
transfer. Figures that set them beside the others compare more than what they are named for.
"""

from __future__ import annotations

from safetransfer import settings_io
from safetransfer.report.runs import Transfer, described, motions
from safetransfer.report.words import stage_name
from safetransfer.training.settings import HOW_IT_IS_CARRIED_OUT

# The plan says these of each stage, or they are this machine's.
_LEFT_OUT = frozenset(
    (
        *("env.robot", "env.obstacles", "env.mocap", "env.id", "env.vector"),
        "train.seed",
        *HOW_IT_IS_CARRIED_OUT,
    )
)
_STAGES_OWN = {"unconstrained": "agent.constraint", "no_feedback": "agent.feedback"}


def differences(transfer: Transfer) -> dict[str, list[str]]:
    """By what differs, as "agent.horizon 12 (planned: 24)" in a line for each combination, the
    stages and seeds that it does in, in words.

    Only settings that both know are compared; a kept agent that was taken as it is is left out.
    People are compared with those among whom the same seed was fine-tuned.
    """
    found: dict[str, list[str]] = {}
    for (stage, seed), run in transfer.runs.items():
        if stage == "pretrain" and transfer.plan.get("agent"):
            continue
        planned = dict(settings_io.flattened(transfer.settings))
        way = stage.partition("-")[0]
        if way in ("start", "finetune"):
            planned |= dict(settings_io.flattened(transfer.plan.get(way) or {}))
        if way == "finetune" and transfer.plan.get("carry") == "replay":
            planned.pop("train.num_envs", None)  # whose rings are one to a hallway
        planned.pop(_STAGES_OWN.get(way, ""), None)
        planned.pop("train.epochs", None)  # which are each stage's own
        if (epochs := transfer.comparable_epochs(stage)) is not None:
            planned["train.epochs"] = epochs
        made = dict(settings_io.flattened(run.config.get("settings") or {}))
        other = [
            f"{name} {described(made[name])} (planned: {described(value)})"
            for name, value in planned.items()
            if name in made and name not in _LEFT_OUT and made[name] != value
        ]
        env = stage.partition("-")[2]
        tuned = transfer.runs.get((f"finetune-{env}", seed))
        if tuned is not None and way != "finetune":
            here, there = (motions(r.config.get("mocap")) for r in (run, tuned))
            if here and there and here != there:
                other.append(f"people by {here} (fine-tuned among: {there})")
        if other:
            where = f"{stage_name(stage)}, seed {seed}"
            found.setdefault("; ".join(sorted(other)), []).append(where)
    return found
