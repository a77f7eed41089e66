"""The report, read back from its HTML and held against what the test wrote into the runs."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from safetransfer.cli import main
from safetransfer.errors import SafeTransferError
from safetransfer.report.ablations import figure_6
from safetransfer.report.chart import Chart, Line, linear_ticks, log_ticks
from safetransfer.report.figures import figure_4, over_seeds
from safetransfer.report.markdown import markdown_table
from safetransfer.report.page import write_report
from safetransfer.report.runs import Run, read_run, read_transfer, regret

SETTINGS = {"env": {"max_steps": 500}, "agent": {"cost_limit": 0.02, "mlp": [128, 128]}}
CONFIG = {
    "settings": SETTINGS,
    "machine": {"cpu": "Some <Processor>", "cores": 2, "memory_gib": 8.0, "accelerator": None},
    "versions": {"python": "3.11.7"},
    "mocap": {"source": "cmu", "folder": "clips", "clips": 41, "sha256": "0123456789abcdef"},
    "command": "safetransfer transfer --out demo",
}


def write_run(path: Path, epochs: int, total: float, first_epoch: int = 1) -> None:
    """A run whose cost grows evenly to `total`, whose return is ten times the epoch."""
    path.mkdir(parents=True)
    rows = [
        {
            "epoch": first_epoch + k - 1,
            "env_steps": 1000 * k,
            "updates": 50 * k,
            "wall_s": 30.0 * k,
            "return": None if k == 1 else 10.0 * k,
            "cost": None if k == 1 else 4.0,
            "cost_total": total * k / epochs,
            "multiplier": 0.5,
            "entropy": -1.0,
            "q_start": 2.0,
            "q_measured": 1.5,
        }
        for k in range(1, epochs + 1)
    ]
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "config.json").write_text(json.dumps(CONFIG))


def write_evaluation(path: Path, env: str, returns: list[float], costs: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    episodes = {"return": returns, "cost": costs, "length": [500.0] * len(returns)}
    means = {k: {"mean": float(np.mean(v)), "ci95": [0, 0]} for k, v in episodes.items()}
    document = {"env": env, "episodes": len(returns), **means, "per_episode": episodes, "seed": 1}
    path.write_text(json.dumps(document))


@pytest.fixture
def transfer(tmp_path: Path) -> Path:
    """Poles finished, humanoids moved to but not learned from scratch."""
    root = tmp_path / "transfer"
    seed = root / "seed-0"
    write_run(seed / "pretrain", 8, 700.0)
    write_run(seed / "finetune-PointPoles", 4, 50.0)
    write_run(seed / "scratch-PointPoles", 8, 800.0)
    write_run(seed / "finetune-PointHumanoids", 2, 9.0)
    kept = seed / "evaluations"
    write_evaluation(kept / "pretrain.json", "PointWalls", [980.0, 990.0], [1.0, 2.0])
    write_evaluation(kept / "zeroshot-PointPoles.json", "PointPoles", [800.0, 820.0], [30.0, 50.0])
    write_evaluation(kept / "finetune-PointPoles.json", "PointPoles", [950.0, 970.0], [3.0, 4.0])
    write_evaluation(kept / "scratch-PointPoles.json", "PointPoles", [930.0, 930.0], [6.0, 6.0])
    write_evaluation(kept / "zeroshot-PointHumanoids.json", "PointHumanoids", [900.0], [7.0])
    plan = {
        "env": "PointWalls",
        "to": ["PointPoles", "PointHumanoids"],
        "seeds": [0],
        "settings": SETTINGS,
        "pretrain_epochs": 8,
        "finetune_epochs": 4,
        "carry": "multiplier",
    }
    (root / "transfer.json").write_text(json.dumps(plan))
    return root


class _Page(HTMLParser):
    """Rows of every table as lists of cell texts, all attributes that load something, all text."""

    def __init__(self, page: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        wanted = ("src", "href", "poster", "action", "data")
        self.loaded += [value for name, value in attrs if name in wanted]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def _read(root: Path) -> _Page:
    return _Page(write_report(root).read_text(encoding="utf-8"))


def _row(page: _Page, group: str, label: str) -> list[str]:
    table = page.tables[0]
    start = next(i for i, row in enumerate(table) if row[0].startswith(group))
    return next(row for row in table[start:] if row[0].startswith(label))


# --- The page -----------------------------------------------------------------------------------


def test_table_holds_the_paper_beside_ours(transfer):
    page = _read(transfer)
    _, paper_return, our_return, paper_cost, our_cost, total = _row(page, "P-Poles", "Zero-shot")
    assert (paper_return, paper_cost, total) == ("756", "1,000", "0")
    assert our_return == "810 [800, 820]"
    assert our_cost == "▲\N{NO-BREAK SPACE}40.0 [30.0, 50.0]"  # above 0.02 per step x 500 steps
    _, paper_return, our_return, paper_cost, our_cost, total = _row(page, "P-Poles", "From scratch")
    assert (paper_return, our_return, paper_cost, our_cost) == (
        "1,090",
        "930 [930, 930]",
        "0.4",
        "6.00 [6.00, 6.00]",
    )
    assert total == "800"
    assert _row(page, "P-Poles", "Safe transfer")[5] == "50.0"
    assert _row(page, "P-Walls", "Pre-trained")[2].startswith("985")
    assert _row(page, "P-Humanoids", "Zero-shot")[1:4:2] == ["935", "5.5"]


def test_headline_is_the_ratio_of_the_logged_costs(transfer):
    text = _read(transfer).text
    assert "Moving the trained Point to poles cost 16 times less than learning there" in text
    assert "a total cost of 50.0 against 800 from scratch" in text
    assert (
        "After the 4,000 steps that fine-tuning took there, learning from scratch had cost 400"
        in text
    )


def test_the_headline_where_learning_there_cost_nothing(transfer):
    shutil.rmtree(transfer / "seed-0" / "scratch-PointPoles")
    write_run(transfer / "seed-0" / "scratch-PointPoles", 8, 0.0)
    text = _read(transfer).text
    assert "cost something, where learning there cost nothing" in text
    assert "a total cost of 50.0 against 0 from scratch" in text


def test_the_headline_where_neither_cost_anything_and_where_both_cost_as_much(transfer):
    for stage, total in (("scratch", 0.0), ("finetune", 0.0)):
        shutil.rmtree(transfer / "seed-0" / f"{stage}-PointPoles")
        write_run(transfer / "seed-0" / f"{stage}-PointPoles", 4, total)
    text = _read(transfer).text
    assert "cost nothing, and learning there nothing either" in text
    assert "After the 4,000 steps" in text
    for stage, total in (("scratch", 50.0), ("finetune", 49.0)):
        shutil.rmtree(transfer / "seed-0" / f"{stage}-PointPoles")
        write_run(transfer / "seed-0" / f"{stage}-PointPoles", 4, total)
    assert "cost about as much as learning there" in _read(transfer).text


def test_the_markdown_table_says_what_the_page_does(transfer, capsys):
    assert main(["report", str(transfer), "--markdown"]) == 0
    out = capsys.readouterr().out
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in out.splitlines()]
    by_name = {row[0]: row[1:] for row in rows if len(row) == 6}
    assert by_name["**P-Poles** zero-shot"][:2] == ["756", "810 (800 to 820)"]
    assert by_name["**P-Poles** zero-shot"][2:] == ["1,000", "40.0 (30.0 to 50.0)", "0"]
    assert by_name["**P-Poles** from scratch"][-1] == "800"
    assert by_name["**P-Humanoids** from scratch"][1] == "not run"
    # 50 of 800; from scratch had cost 400 after the 4000 steps that fine-tuning took
    assert "cost 6.2% of what learning there cost (12.5% of" in out
    assert not (transfer / "report.html").exists()


def test_what_it_cost_until_it_was_as_good_is_its_own_share(transfer):
    log = transfer / "seed-0" / "scratch-PointPoles" / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[1]["return"] = 45.0  # as good as fine-tuning, when it had cost 200
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = (
        "(12.5% of what it had cost after the same 4,000 steps, 25.0% of what it had cost until "
    )
    assert wanted in markdown_table(read_transfer(transfer))


def test_several_seeds_are_averaged_and_their_spread_is_shown(transfer):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"seeds": [0, 1]}))
    write_run(transfer / "seed-1" / "scratch-PointPoles", 8, 900.0)
    name = "evaluations/scratch-PointPoles.json"
    write_evaluation(transfer / "seed-1" / name, "PointPoles", [1030.0, 1030.0], [2.0, 4.0])
    row = _row(_read(transfer), "P-Poles", "From scratch")
    # Within a seed all returns are equal: what new seeds might do is all of the interval.
    assert row[2] == "980 [930, 1,030]"
    assert row[4].startswith("4.50 [")  # of 6, 6, 2, 4
    assert row[5] == "850 800 to 900 over 2 seeds"
    table = markdown_table(read_transfer(transfer))
    (line,) = (x for x in table.splitlines() if x.startswith("| **P-Poles** from scratch"))
    assert "| 980 (930 to 1,030) |" in line and line.endswith("| 850 |")


@pytest.mark.parametrize(("cost", "marked"), [(10.0, False), (10.1, True)])
def test_a_cost_above_the_limit_is_marked(transfer, cost, marked):
    name = "seed-0/evaluations/scratch-PointPoles.json"
    write_evaluation(transfer / name, "PointPoles", [930.0, 930.0], [cost, cost])
    shown = _row(_read(transfer), "P-Poles", "From scratch")[4]  # the limit is 0.02 * 500
    assert shown.startswith("▲") is marked


def test_a_move_that_cost_more_is_said_to_have_cost_more(transfer):
    shutil.rmtree(transfer / "seed-0" / "finetune-PointPoles")
    write_run(transfer / "seed-0" / "finetune-PointPoles", 4, 2000.0)
    assert "cost 2.5 times more than learning there" in _read(transfer).text


def test_intervals_are_over_the_seeds_that_were_evaluated(transfer):
    assert "over the episodes of one training seed" in _read(transfer).text
    other = transfer / "seed-1"
    shutil.copytree(transfer / "seed-0" / "pretrain", other / "pretrain")
    name = "evaluations/pretrain.json"
    (other / "evaluations").mkdir()
    shutil.copy(transfer / "seed-0" / name, other / name)
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"seeds": [0, 1, 2]}))
    assert "over 1 to 2 training seeds" in _read(transfer).text


def test_stages_that_are_missing_say_so(transfer):
    page = _read(transfer)
    row = _row(page, "P-Humanoids", "From scratch")
    assert [row[2], row[4], row[5]] == ["not run yet"] * 3
    assert _row(page, "P-Humanoids", "Safe transfer")[2] == "not run yet"
    assert "unfinished" in _row(page, "P-Humanoids", "Safe transfer")[5]
    stages = {row[0]: row for row in page.tables[1]}
    assert stages["Fine-tuning in P-Humanoids"][2] == "2 of 4"
    assert stages["From scratch in P-Humanoids"][2] == "not run yet"
    assert stages["Pre-training"][6] == "cmu, 41 clips, sha256 01234567"
    assert stages["Pre-training"][2:6] == ["8", "8,000", "400", "4.0"]


def test_a_transfer_that_has_just_begun_makes_a_page(transfer):
    shutil.rmtree(transfer / "seed-0")
    page = _read(transfer)
    assert page.text.count("not run yet") > 10


def test_leaving_out_the_comparison_is_not_called_unfinished(transfer):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"scratch": False}))
    assert _row(_read(transfer), "P-Humanoids", "From scratch")[2] == "not run"


@pytest.mark.parametrize("films, shown", [(True, True), (False, False)])
def test_films_that_were_not_asked_for_have_no_place_on_the_page(transfer, films, shown):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"films": films}))
    write_report(transfer)
    assert ("<h2>Films</h2>" in (transfer / "report.html").read_text()) is shown


def test_page_needs_nothing_from_anywhere(transfer):
    films = transfer / "seed-0" / "films"
    films.mkdir()
    (films / "zeroshot-PointPoles.gif").write_bytes(b"GIF89a")
    (films / "finetune-PointPoles.mp4").write_bytes(b"not a film")
    page = _read(transfer)
    assert len([value for value in page.loaded if value.startswith("data:")]) == 2
    assert all(value.startswith("data:") for value in page.loaded)
    source = (transfer / "report.html").read_text()
    assert not re.search(r"@import|url\(|<script|<link", source)
    assert "P-Poles, before: just moved there" in page.text


def test_what_files_say_is_escaped(transfer):
    source = write_report(transfer).read_text()
    assert "Some &lt;Processor&gt;" in source and "<Processor>" not in source


def test_runs_of_other_settings_than_planned_are_named(transfer):
    plan_file = transfer / "transfer.json"
    plan = json.loads(plan_file.read_text())
    assert "other settings" not in _read(transfer).text
    agent = {"cost_limit": 0.02, "mlp": [128, 128], "horizon": 24, "lr": 0.5}
    plan |= {
        "settings": {"env": {"max_steps": 500}, "agent": agent, "train": {"epochs": 8}},
        "finetune": {"agent": {"lr": 0.1}},
        "start": {"agent": {"lr": 0.2}},
        "start_in": "PointEmpty",
    }
    plan_file.write_text(json.dumps(plan))

    def settle(stage, **own):
        epochs = own.pop("epochs", 4 if stage.startswith("finetune") else 8)
        settings = {**SETTINGS, "agent": agent | own, "train": {"epochs": epochs, "threads": 1}}
        path = transfer / "seed-0" / stage / "config.json"
        path.write_text(json.dumps(CONFIG | {"settings": settings}))

    for stage in ("pretrain", "scratch-PointPoles"):
        settle(stage)
    for stage in ("finetune-PointPoles", "finetune-PointHumanoids"):
        settle(stage, lr=0.1)
    write_run(transfer / "seed-0" / "start-PointEmpty", 2, 0.0)
    settle("start-PointEmpty", lr=0.2)
    assert "other settings" not in _read(transfer).text
    settle("scratch-PointPoles", horizon=12)
    settle("finetune-PointPoles", lr=0.5)
    settle("pretrain", epochs=6)
    text = _read(transfer).text
    assert text.count("other settings than planned") == 3
    assert "Pre-training, seed 0. train.epochs 6 (planned: 8)." in text
    assert "From scratch in P-Poles, seed 0. agent.horizon 12 (planned: 24)." in text
    assert "Fine-tuning in P-Poles, seed 0. agent.lr 0.5 (planned: 0.1)." in text


def test_runs_among_other_people_than_those_of_fine_tuning_are_named(transfer):
    assert "fine-tuned among" not in _read(transfer).text
    write_run(transfer / "seed-0" / "scratch-PointHumanoids", 2, 0.0)
    path = transfer / "seed-0" / "scratch-PointHumanoids" / "config.json"
    path.write_text(json.dumps(CONFIG | {"mocap": {"source": "built-in", "clips": 9}}))
    words = "people by built-in, 9 clips (fine-tuned among: cmu, 41 clips, sha256 01234567)"
    assert f"From scratch in P-Humanoids, seed 0. {words}." in _read(transfer).text


def test_runs_made_on_two_machines_name_both(transfer):
    path = transfer / "seed-0" / "scratch-PointPoles" / "config.json"
    there = {"machine": {"cpu": "Other", "cores": 16}, "versions": {"python": "3.12.3"}}
    path.write_text(json.dumps(CONFIG | {"earlier": [{"updates": 200, **there}]}))
    page = _read(transfer)
    (table,) = (t for t in page.tables if t[0][-1] == "Machine")
    by_stage = {row[0].lower(): row[-1] for row in table[1:]}
    assert [m for s, m in by_stage.items() if "scratch" in s and "poles" in s] == ["B, then A"]
    assert set(by_stage.values()) == {"A", "B, then A", ""}
    assert "B: 16 × Other; python 3.12.3" in page.text


def test_page_is_written_where_asked(transfer, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    assert write_report(transfer, out) == out
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


# --- Curves -------------------------------------------------------------------------------------


def _numbers(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"-?\d+\.?\d*", text)]


def test_figure_4_joins_the_stages_at_the_switch(transfer):
    returns, _, totals = figure_4(read_transfer(transfer), "PointPoles")
    moved, scratch = returns.lines
    assert moved.x.tolist() == list(range(1, 13)) and returns.switch[0] == 8
    assert scratch.x.tolist() == list(range(1, 9))
    moved, scratch, before = totals.lines
    assert dict(zip(moved.x, moved.y, strict=True)) == {
        0: 0, 8: 0, 9: 12.5, 10: 25, 11: 37.5, 12: 50,
    }  # fmt: skip
    assert scratch.y[-1] == 800 and before.y[-1] == 700


def test_epochs_count_from_one_whatever_the_run_calls_them(transfer):
    shutil.rmtree(transfer / "seed-0" / "finetune-PointPoles")
    write_run(transfer / "seed-0" / "finetune-PointPoles", 4, 50.0, first_epoch=9)
    returns = figure_4(read_transfer(transfer), "PointPoles")[0]
    assert returns.lines[0].x.tolist() == list(range(1, 13))


def test_the_switch_stands_where_an_unfinished_pretraining_will_end(transfer):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"pretrain_epochs": 20}))
    assert figure_4(read_transfer(transfer), "PointPoles")[0].switch[0] == 20


def test_seeds_are_averaged_where_all_of_them_are(transfer):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"seeds": [0, 1]}))
    write_run(transfer / "seed-1" / "scratch-PointPoles", 6, 900.0)
    scratch = figure_4(read_transfer(transfer), "PointPoles")[2].lines[1]
    assert scratch.x.tolist() == list(range(7))
    assert scratch.y[6] == pytest.approx((600 + 900) / 2)
    assert (scratch.band[0][6], scratch.band[1][6]) == (600, 900)


def test_regret_compares_the_seeds_that_have_both(transfer):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"seeds": [0, 1]}))
    write_run(transfer / "seed-1" / "finetune-PointPoles", 4, 1000.0)
    found = regret(read_transfer(transfer), "PointPoles")
    assert (found.moved, found.scratch, found.ratio, found.finished) == (50, 800, 16, False)


def test_regret_until_learning_there_is_as_good(transfer):
    # Fine-tuning ends at return 40, cost 4; from scratch passes 0.98 * 40 in epoch 4 of 8.
    assert regret(read_transfer(transfer), "PointPoles").scratch_until_good == 400
    log = transfer / "seed-0" / "scratch-PointPoles" / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows[:6]:
        row["cost"] = 11.0  # over the limit of 0.02 * 500
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert regret(read_transfer(transfer), "PointPoles").scratch_until_good == 700
    log.write_text(json.dumps(rows[0]) + "\n")
    assert regret(read_transfer(transfer), "PointPoles").scratch_until_good is None
    # Where returns are negative: -150 is as good as -150.
    tuned = transfer / "seed-0" / "finetune-PointPoles" / "log.jsonl"
    for path in (log, tuned):
        found = [json.loads(line) for line in path.read_text().splitlines()]
        same = {"return": -150.0, "cost": 4.0}
        path.write_text("".join(json.dumps(row | same) + "\n" for row in found))
    assert regret(read_transfer(transfer), "PointPoles").scratch_until_good == 100


def test_regret_after_the_same_steps_waits_for_every_seed(transfer):
    plan = json.loads((transfer / "transfer.json").read_text())
    (transfer / "transfer.json").write_text(json.dumps(plan | {"seeds": [0, 1]}))
    write_run(transfer / "seed-1" / "scratch-PointPoles", 8, 1600.0)
    write_run(transfer / "seed-1" / "finetune-PointPoles", 4, 50.0)
    log = transfer / "seed-1" / "finetune-PointPoles" / "log.jsonl"
    assert regret(read_transfer(transfer), "PointPoles").scratch_same_steps == 600
    rows = [json.loads(line) | {"env_steps": None} for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert regret(read_transfer(transfer), "PointPoles").scratch_same_steps is None


def test_as_good_is_nearly_its_return_at_no_more_than_its_cost_or_the_limit(transfer):
    tuned, log = (
        transfer / "seed-0" / f"{way}-PointPoles" / "log.jsonl" for way in ("finetune", "scratch")
    )

    def until_good(returned, cost, paid):
        for path, k, own in (
            (tuned, 3, {"return": 40.0, "cost": paid}),
            (log, 1, {"return": returned, "cost": cost}),
        ):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            rows[k] |= own
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return regret(read_transfer(transfer), "PointPoles").scratch_until_good

    # Its second epoch is as good, at a total cost of 200, or only its fourth, at 400.
    assert until_good(39.3, 10.0, 4.0) == 200  # the limit is 0.02 * 500
    assert until_good(39.1, 10.0, 4.0) == 400
    assert until_good(39.3, 10.1, 4.0) == 400
    assert until_good(39.3, 11.0, 12.0) == 200
    assert until_good(39.3, 13.0, 12.0) == 400


def test_cost_after_so_many_steps_lies_between_the_epochs(tmp_path):
    rows = ({"epoch": 1, "env_steps": 1000, "cost_total": 100.0},
            {"epoch": 2, "env_steps": 2000, "cost_total": 300.0})  # fmt: skip
    run = Run(tmp_path, rows, {})
    after = [run.cost_total_after(steps) for steps in (500, 1000, 1500, 2000, 2001)]
    assert after == [50.0, 100.0, 200.0, 300.0, None]


def test_curves_are_smoothed_within_a_stage_and_not_across_the_switch():
    step = np.repeat([0.0, 30.0], 36)
    spike = np.zeros(72)
    spike[18] = 3.0
    x = np.arange(72.0)
    assert over_seeds("", [(x, step, [0, 36])], "").y.tolist() == step.tolist()
    smoothed = over_seeds("", [(x, spike, [0, 36])], "").y
    assert smoothed[16:21].tolist() == pytest.approx([0, 1, 1, 1, 0])  # over 36 / 12


def test_ablations_stand_beside_the_agent_as_it_is(transfer):
    assert "Figure 6" not in write_report(transfer).read_text()
    plan = json.loads((transfer / "transfer.json").read_text())
    plan["ablations"] = ["unconstrained", "no_feedback"]
    (transfer / "transfer.json").write_text(json.dumps(plan))
    seed = transfer / "seed-0"
    write_run(seed / "unconstrained-PointPoles", 6, 5000.0)
    write_evaluation(
        seed / "evaluations" / "unconstrained-PointPoles.json", "PointPoles", [1001.0], [432.0]
    )
    returns, costs, totals = figure_6(read_transfer(transfer), "PointPoles")
    assert [line.label for line in costs.lines] == ["constrained", "reward alone"]
    assert [line.x[-1] for line in returns.lines] == [8, 6]
    assert [line.y[-1] for line in totals.lines] == [800, 5000]
    page = write_report(transfer).read_text()
    figure = page[page.index("Figure 6") : page.index("Figure 8")]
    row = figure[figure.index('<th scope="row">P-Poles') :].split("</tr>")[0]
    assert re.findall(r"<td[^>]*>(?:▲&nbsp;)?([\d,.]+)", row) == ["930", "1,001", "6.00", "432"]
    assert figure.count("not run yet") > 0  # the other hallways, so far
    table = markdown_table(read_transfer(transfer))
    assert "| P-Poles, reward alone | – | 1,001 (1,001 to 1,001) | – | 432 " in table
    assert "| P-Walls, without last reward and cost | – | not run |" in table


def test_a_chart_puts_points_where_its_axes_say():
    x, y = np.arange(5.0), np.array([0.0, 10.0, np.nan, 30.0, 40.0])
    svg = Chart("Climb", [Line("a", x, y)], zero=True).svg()
    paths = re.findall(r'<path d="M([^"]*)"', svg)
    assert len(paths) == 2  # broken at the gap
    labels = {
        text: float(at)
        for at, anchor, text in re.findall(
            r'<text [^>]*y="([\d.]+)"[^>]*text-anchor="(end)"[^>]*>([^<]+)<', svg
        )
    }
    (_, y0), (_, y10) = (_numbers(point) for point in paths[0].split(" L"))
    assert y0 == pytest.approx(labels["0"] - 4, abs=0.11)  # labels hang 4 below their line
    assert y10 == pytest.approx(labels["10"] - 4, abs=0.11)


def test_a_constant_of_any_size_has_ticks():
    for value in (0.0, -3.0, 1e17, 1e100):
        ticks = linear_ticks(value, value)
        assert ticks[0] <= value <= ticks[-1] and ticks[0] < ticks[-1]


def test_ticks_are_round_and_cover_the_range():
    assert linear_ticks(0, 1040) == [0, 500, 1000, 1500]
    assert linear_ticks(-0.9, 1.1) == [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5]
    assert log_ticks(330) == [0, 1, 10, 100, 1000]
    assert len(linear_ticks(5, 5)) > 1


# --- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{broken", "line 3: not a row of JSON"),
        ("[1, 2]", "line 3: expected an object .* found a list"),
        ('{"epoch": 3, "cost": "many"}', "line 3: 'cost' must be a number or null, not text"),
        ('{"cost": 1}', "line 3: the row has no 'epoch'"),
        ('{"epoch": 2}', "line 3: epoch 2 follows epoch 2"),
    ],
)
def test_a_bad_row_names_file_and_line(transfer, row, complaint):
    log = transfer / "seed-0" / "pretrain" / "log.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:2], row, *lines[2:]]) + "\n")
    with pytest.raises(SafeTransferError, match=f"log.jsonl, {complaint}"):
        write_report(transfer)


def test_a_line_still_being_written_is_left_out(transfer):
    log = transfer / "seed-0" / "pretrain" / "log.jsonl"
    log.write_text(log.read_text() + '{"epoch": 9, "cost')
    run = read_run(log.parent)
    assert run is not None and run.epochs == 8


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("transfer.json", "{", "transfer.json, line 1: not JSON"),
        ("transfer.json", "[]", "transfer.json: expected an object"),
        ("transfer.json", '{"env": "PointWalls", "to": "PointPoles", "seeds": [0]}', "'to' must"),
        ("transfer.json", '{"env": "PointWalls", "to": [], "seeds": []}', "'seeds' must"),
        ("seed-0/evaluations/pretrain.json", '{"return": {}}', "return.mean must be a finite"),
        (
            "seed-0/evaluations/pretrain.json",
            '{"per_episode": {"cost": ["x"]}}',
            "per_episode.cost",
        ),
        ("seed-0/pretrain/config.json", "\xff", "config.json"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(transfer, name, content, complaint):
    (transfer / name).write_text(content, encoding="latin-1")
    with pytest.raises(SafeTransferError, match=complaint):
        write_report(transfer)


def test_a_directory_without_a_transfer_is_refused(tmp_path):
    with pytest.raises(SafeTransferError, match=r"no transfer\.json here"):
        write_report(tmp_path)
