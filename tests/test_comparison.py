"""Comparing runs: what is found, what counts as seeds of one thing, every form of the result."""

from __future__ import annotations

import copy
import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from safetransfer.cli import main
from safetransfer.errors import SafeTransferError
from safetransfer.report.comparison import write_comparison
from safetransfer.report.comparison.groups import group_members
from safetransfer.report.comparison.members import find_members
from safetransfer.report.comparison.numbers import measured

SETTINGS = {
    "env": {"robot": "Point", "obstacles": "Poles", "max_steps": 1000, "mocap": None},
    "agent": {"lr": 5e-4, "cost_limit": 0.01},
    "train": {"seed": 0, "epochs": 3, "threads": 2},
}


def write_run(path: Path, seed=0, total=300.0, epochs=3, **changes) -> Path:
    """A run of 1000 steps an epoch whose cost grows evenly to `total`."""
    settings = copy.deepcopy(SETTINGS)
    settings["train"]["seed"] = seed
    for name, value in changes.items():
        section, _, field = name.partition("__")
        settings[section][field] = value
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"settings": settings, "init": None}))
    rows = [
        {"epoch": k, "env_steps": 1000 * k, "return": 100.0 * k + seed, "cost": 5.0,
         "cost_total": total * k / epochs}
        for k in range(1, epochs + 1)
    ]  # fmt: skip
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_evaluation(folder: Path, costs, returns=None, env="PointPoles", name=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    returns = returns or [1000.0 - c for c in costs]
    episodes = {"return": returns, "cost": costs, "length": [500.0] * len(costs)}
    document = {"env": env, "episodes": len(costs), "per_episode": episodes}
    (folder / f"{name or env}.json").write_text(json.dumps(document))


@pytest.fixture
def runs(tmp_path) -> Path:
    """Two seeds of one thing, one of another learning rate, all among poles."""
    root = tmp_path / "runs"
    first, second = write_run(root / "a", 0, 300.0), write_run(root / "b", 1, 600.0)
    third = write_run(root / "c", 0, 90.0, agent__lr=1e-3)
    write_evaluation(first / "evaluations", [0.0, 0.0, 8.0, 8.0])
    write_evaluation(second / "evaluations", [0.0, 4.0, 12.0, 48.0])
    write_evaluation(third / "evaluations", [1.0] * 4)
    return root


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "compare.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_that_differ_in_their_seed_alone_are_one_thing(runs, tmp_path):
    write_comparison([runs], tmp_path / "out")
    both, other = rows_of(tmp_path / "out")
    assert (both["label"], other["label"]) == ("trained, lr 0.0005", "trained, lr 0.001")
    assert (both["evaluation.seeds"], both["evaluation.episodes"]) == ("2", "8")
    assert (other["evaluation.seeds"], other["training.seeds"]) == ("1", "1")


def test_the_figures_are_those_worked_out_by_hand(runs, tmp_path):
    write_comparison([runs], tmp_path / "out")
    both, other = rows_of(tmp_path / "out")
    expected = {
        "evaluation.mean_cost": 10.0,  # (0 + 0 + 8 + 8 + 0 + 4 + 12 + 48) / 8
        "evaluation.iqm_cost": 5.0,  # 0, 4, 8, 8 are the middle half
        "evaluation.mean_return": 990.0,
        "evaluation.cost_rate": 80 / 4000,
        "evaluation.within": 6 / 8,  # at most 10 = 0.01 of 1000 steps
        "evaluation.worst_cost": 48.0,
        "evaluation.worst_return": 952.0,
        "training.regret": 450.0,
        "training.cost_rate": 0.15,
        "training.env_steps": 3000.0,
    }
    assert {name: float(both[name]) for name in expected} == pytest.approx(expected)
    # Two seeds can be resampled in two ways only; one seed says nothing about others.
    assert float(both["training.regret.over_seeds.low"]) == 300.0
    assert float(both["training.regret.over_seeds.high"]) == 600.0
    assert other["training.regret.over_seeds.low"] == ""
    assert other["evaluation.mean_cost.over_seeds.low"] == ""
    within = [float(both[f"evaluation.mean_cost.over_episodes.{end}"]) for end in ("low", "high")]
    across = [float(both[f"evaluation.mean_cost.over_seeds.{end}"]) for end in ("low", "high")]
    assert across[0] < within[0] < 10.0 < within[1] < across[1]


def test_cost_per_step_is_over_all_steps_and_the_limit_is_within_the_limit():
    episodes = {"return": [1.0, 2.0], "cost": [10.0, 0.0], "length": [100.0, 900.0]}
    found = measured([{name: np.array(x) for name, x in episodes.items()}], cost_limit=10.0)
    assert found.cost_rate.value == 10 / 1000
    assert found.cost_rate.over_episodes == (0.0, 20 / 200)
    assert found.within.value == 1.0
    assert (found.worst_cost, found.worst_return) == (10.0, 1.0)


def test_what_does_not_change_what_is_learned_does_not_part_seeds(runs):
    machine = {"train__batch_parts": 1, "train__device": "cpu", "train__actor_device": "cpu"}
    write_run(runs / "d", 2, train__threads=8, env__mocap="/some/folder", **machine)
    assert [len(g.members) for g in group_members(find_members([runs]))] == [3, 1]


def test_a_run_from_before_a_setting_existed_had_its_default(runs):
    write_run(runs / "d", 2, env__likeness=0.5)  # the default; the others do not say
    assert [len(g.members) for g in group_members(find_members([runs]))] == [3, 1]


def test_a_run_and_its_copy_count_once(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "kept" / "a")
    assert len(find_members([runs, tmp_path / "kept", runs / "a"])) == 3


def test_an_agent_that_is_evaluated_twice_is_one_seed(tmp_path):
    """As in the tour: a run, and a transfer that takes its agent and evaluates it anew."""
    run, taken = tmp_path / "run", tmp_path / "transfer" / "seed-0"
    write_run(run, 0, env__obstacles="Walls")
    shutil.copytree(run, taken / "pretrain")
    (tmp_path / "transfer" / "transfer.json").write_text("{}")
    write_evaluation(taken / "evaluations", [2.0, 3.0], env="PointWalls", name="pretrain")
    write_evaluation(taken / "evaluations", [4.0, 5.0], name="zeroshot-PointPoles")
    # The run itself has not been evaluated: the transfer's evaluation is the only one.
    found = {m.way: m for m in find_members([run, tmp_path / "transfer"])}
    assert found.keys() == {"trained", "zero-shot"} and found["trained"].episodes is not None
    # Nor does another evaluation make another agent of it, or the same training another time.
    write_evaluation(run / "evaluations", [2.5, 3.5], env="PointWalls", name="PointWalls")
    write_evaluation(run / "evaluations", [4.5, 5.5], env="PointPoles", name="PointPoles")
    log = taken / "pretrain" / "log.jsonl"
    rows = [json.loads(line) | {"wall_s": 12345.0} for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    members = find_members([run, tmp_path / "transfer"])
    assert [(m.way, m.path) for m in members] == [("trained", run), ("zero-shot", run)]


@pytest.fixture
def transfer(tmp_path) -> Path:
    root = tmp_path / "transfer"
    for seed in (0, 1):
        base = root / f"seed-{seed}"
        write_run(base / "pretrain", seed, env__obstacles="Walls")
        write_run(base / "finetune-PointPoles", seed, 30.0)
        write_run(base / "scratch-PointPoles", seed, 900.0)
        write_evaluation(base / "evaluations", [2.0, 3.0], env="PointWalls", name="pretrain")
        for name in ("zeroshot", "finetune", "scratch"):
            write_evaluation(base / "evaluations", [4.0, 5.0], name=f"{name}-PointPoles")
    (root / "transfer.json").write_text("{}")
    return root


def test_the_stages_of_a_transfer_are_told_apart(transfer):
    groups = group_members(find_members([transfer]))
    assert [(g.env, g.label, len(g.members)) for g in groups] == [
        ("PointWalls", "trained", 2),
        ("PointPoles", "zero-shot", 2),
        ("PointPoles", "fine-tuned", 2),
        ("PointPoles", "from scratch", 2),
    ]
    assert all(m.episodes is not None for g in groups for m in g.members)


def test_agents_with_another_past_are_not_seeds_of_one_thing(transfer, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(transfer, other)
    for seed in (0, 1):
        config = other / f"seed-{seed}" / "pretrain" / "config.json"
        document = json.loads(config.read_text())
        document["settings"]["agent"]["lr"] = 2e-3
        config.write_text(json.dumps(document))
        rows = other / f"seed-{seed}" / "finetune-PointPoles" / "log.jsonl"
        rows.write_text(rows.read_text().replace("5.0", "6.0"))
    labels = [g.label for g in group_members(find_members([transfer, other]))]
    assert labels == [
        "trained, lr 0.0005",
        "trained, lr 0.002",
        "zero-shot, lr 0.0005",
        "zero-shot, lr 0.002",
        "fine-tuned, pre-training lr 0.0005",
        "fine-tuned, pre-training lr 0.002",
        "from scratch",
    ]


def test_more_settings_than_a_label_holds_are_counted(runs):
    write_run(runs / "d", agent__lr=1e-2, agent__tau=0.1, agent__gamma=0.9, agent__alpha=3.0)
    label = group_members(find_members([runs]))[-1].label
    assert label == "trained, gamma 0.9, tau 0.1, alpha 3, and 1 more"


class _Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.loaded: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_beside_it(runs, transfer, tmp_path):
    page = write_comparison([runs, transfer], tmp_path / "out")
    read = _Tags(page.read_text(encoding="utf-8"))
    assert read.open == [] and read.loaded == []
    for text in ("P-Poles", "fine-tuned", "lr 0.001", "Learning curves"):
        assert text in read.text


def test_tables_for_papers_hold_the_same_figures(runs, tmp_path):
    out = tmp_path / "out"
    write_comparison([runs], out)
    markdown = (out / "compare.md").read_text()
    row = next(line for line in markdown.splitlines() if "trained, lr 0.0005" in line)
    assert row.count("|") == markdown.splitlines()[2].count("|")
    assert "10.0 [" in row and "75.0%" in row and "| 48 |" in row
    latex = (out / "compare.tex").read_text()
    assert r"trained, lr 0.0005 & 2 & 990" in latex and r"75.0\%" in latex
    for table in latex.split(r"\begin{tabular}")[1:]:
        body = table.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
        columns = table.split("}")[0].strip("{").count("r")
        for line in body.split(r"\\"):
            if line.strip() and r"\multicolumn" not in line:
                assert line.count("&") == columns


def test_what_else_is_in_the_folder_stays(runs, tmp_path):
    out = tmp_path / "out"
    write_comparison([runs / "a", runs / "c"], out)
    drawn = set((out / "curves").glob("*.svg"))
    mine = out / "curves" / "mine.csv"
    mine.write_text("x")
    gone = out / "curves" / "an-earlier-one.svg"
    listed = out / "curves" / ".drawn"
    gone.write_text("x")
    listed.write_text(listed.read_text() + "an-earlier-one.svg\n../../runs/a/config.json\n")
    write_comparison([runs / "a", runs / "c"], out)
    assert mine.read_text() == "x" and not gone.exists()
    assert set((out / "curves").glob("*.svg")) == drawn
    assert (runs / "a" / "config.json").exists()


def test_a_curve_and_its_numbers_agree(runs, tmp_path):
    out = tmp_path / "out"
    write_comparison([runs], out)
    names = {path.stem for path in (out / "curves").glob("*.svg")}
    assert names == {"return-PointPoles", "cost-PointPoles", "cost-total-PointPoles"}
    for path in (out / "curves").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with (out / "curves" / "cost-total-PointPoles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    mean = [r for r in rows if r["line"] == "mean" and "0.0005" in r["label"]]
    assert [float(r["env_steps"]) for r in mean] == [0, 1000, 2000, 3000]
    assert [float(r["value"]) for r in mean] == pytest.approx([0, 150, 300, 450])
    assert [float(r["low"]) for r in mean] == pytest.approx([0, 100, 200, 300])
    assert [float(r["high"]) for r in mean] == pytest.approx([0, 200, 400, 600])
    second = [float(r["value"]) for r in rows if r["line"] == "seed 1"]
    assert second == pytest.approx([0, 200, 400, 600])


def test_a_mean_goes_as_far_as_every_seed_has_come(runs, tmp_path):
    log = runs / "b" / "log.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines()[:2]))
    write_comparison([runs], tmp_path / "out")
    with (tmp_path / "out" / "curves" / "return-PointPoles.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if "0.0005" in r["label"]]
    assert [float(r["value"]) for r in rows if r["line"] == "mean"] == [100.5, 200.5]
    assert "1 unfinished" in (tmp_path / "out" / "compare.html").read_text()


def test_a_run_without_an_evaluation_still_has_its_training(runs, tmp_path):
    shutil.rmtree(runs / "c" / "evaluations")
    write_comparison([runs / "c"], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert row["evaluation.mean_cost"] == "" and float(row["training.regret"]) == 90.0
    assert "not evaluated" in (tmp_path / "out" / "compare.html").read_text()


def test_an_agent_evaluated_elsewhere_is_zero_shot_there(runs):
    write_evaluation(runs / "c" / "evaluations", [7.0], env="PointWalls")
    group = group_members(find_members([runs / "c"]))[-1]
    assert (group.env, group.way) == ("PointWalls", "zero-shot")
    assert group.members[0].episodes["cost"].tolist() == [7.0]


@pytest.mark.parametrize(
    "broken",
    [
        {"env": "PointPoles"},
        {"per_episode": {"return": [1.0], "cost": ["x"], "length": [1.0]}},
        {"per_episode": {"return": [1.0], "cost": [float("nan")], "length": [1.0]}},
        {"per_episode": {"return": [1.0, 2.0], "cost": [1.0], "length": [1.0]}},
        {"per_episode": {"return": [], "cost": [], "length": []}},
    ],
)
def test_a_broken_evaluation_is_named(runs, tmp_path, broken):
    file = runs / "a" / "evaluations" / "PointPoles.json"
    file.write_text(json.dumps(broken))
    with pytest.raises(SafeTransferError, match=r"PointPoles\.json"):
        write_comparison([runs], tmp_path / "out")


def test_where_there_is_nothing_to_compare_it_says_so(tmp_path):
    with pytest.raises(SafeTransferError, match="no such directory"):
        find_members([tmp_path / "nowhere"])
    with pytest.raises(SafeTransferError, match=r"log\.jsonl"):
        find_members([tmp_path])


def test_the_command(runs, tmp_path, capsys):
    assert main(["compare", str(runs / "a"), str(runs / "b"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "compare.html")
    assert main(["report", str(runs), str(runs)]) == 2
    assert "safetransfer compare" in capsys.readouterr().err
