"""What kept agents are called: the stage of an experiment that they come from."""

from __future__ import annotations

STAGE_OF = {  # of a transfer's runs, by the beginning of their names
    "start": "pretrained",
    "pretrain": "pretrained",
    "finetune": "finetuned",
    "scratch": "scratch",
    "unconstrained": "unconstrained",
    "no_feedback": "no_feedback",
}
STAGES = tuple(dict.fromkeys(STAGE_OF.values()))
