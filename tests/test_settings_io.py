"""Settings come through files and flags as they went in, and what cannot work is named."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from safetransfer import settings_io
from safetransfer.errors import SettingError, UnknownNameError


@dataclass(frozen=True)
class Agent:
    gamma: float = field(default=0.98, metadata={"help": "discount; 98% is kept"})
    feedback: bool = True
    layers: tuple[int, ...] = (64, 64)
    entropy: float | None = None
    mode: Literal["tuned", "fixed"] = "tuned"
    clip: float = float("inf")

    def __post_init__(self) -> None:
        if self.gamma > 1:
            raise SettingError("agent.gamma: at most 1")


@dataclass(frozen=True)
class Settings:
    agent: Agent = field(default_factory=Agent)
    steps: int = field(default=1000, metadata={"help": "how many"})
    names: list[str] = field(default_factory=list)
    pair: tuple[int, float] = (1, 2.0)


def from_flags(*argv: str) -> Settings:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    settings_io.add_flags(parser, Settings())
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        raise settings_io.unknown_flag(unknown[0], parser)
    return settings_io.apply_flags(Settings(), arguments)


def test_settings_survive_json():
    settings = Settings(Agent(gamma=0.5, entropy=-6.0, layers=()), 7, ["a", "b"], (3, 0.25))
    text = json.dumps(settings_io.to_dict(settings), allow_nan=False)
    assert settings_io.from_dict(Settings, json.loads(text)) == settings


def test_fields_left_out_take_their_defaults_and_changes_keep_the_rest():
    assert settings_io.from_dict(Settings, {"agent": {"gamma": 0.9}}) == Settings(Agent(gamma=0.9))
    before = Settings(Agent(gamma=0.9), steps=5)
    after = settings_io.updated(before, {"agent": {"feedback": False}})
    assert after == Settings(Agent(gamma=0.9, feedback=False), steps=5)
    assert before.agent.feedback


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"agent": {"gama": 1}}, ["gama", "agent", "Did you mean 'gamma'", "feedback", "clip"]),
        ({"stepz": 1}, ["stepz", "agent, steps, names, pair"]),
        ({"agent": {"mode": "tune"}}, ["agent.mode", "tuned, fixed"]),
    ],
)
def test_an_unknown_name_lists_the_known_ones(data: dict[str, Any], words: list[str]):
    with pytest.raises(UnknownNameError) as error:
        settings_io.from_dict(Settings, data)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"steps": "many"}, 'steps: got "many", expected a whole number'),
        ({"steps": 1.5}, "steps: got 1.5, expected a whole number"),
        ({"steps": True}, "steps: got true, expected a whole number"),
        ({"agent": {"feedback": 1}}, "agent.feedback: got 1, expected true or false"),
        ({"agent": {"gamma": None}}, "agent.gamma: got none, expected a number"),
        ({"agent": {"gamma": float("nan")}}, "agent.gamma: got NaN, expected a number"),
        ({"agent": {"entropy": "x"}}, 'agent.entropy: got "x", expected a number or none'),
        ({"agent": {"layers": [1, "a"]}}, 'agent.layers[1]: got "a", expected a whole number'),
        ({"pair": [1]}, "pair: got [1], expected a list of 2: a whole number, a number"),
        ({"agent": 3}, "agent: got 3, expected a table of settings"),
        ({"agent": {"gamma": 2}}, "agent.gamma: at most 1"),
    ],
)
def test_a_wrong_value_says_field_and_what_was_expected(data: dict[str, Any], message: str):
    with pytest.raises(SettingError) as error:
        settings_io.from_dict(Settings, data)
    assert str(error.value) == message


def test_flags_of_every_type():
    settings = from_flags(
        *("--steps", "1e6", "--agent.gamma", "0.9", "--agent.feedback", "false"),
        *("--agent.layers", "1,2,3", "--agent.entropy", "-6", "--agent.mode", "fixed"),
        *("--agent.clip", "10", "--names", "a,b", "--pair", "4,0.5"),
    )
    agent = Agent(0.9, False, (1, 2, 3), -6.0, "fixed", 10.0)
    assert settings == Settings(agent, 1_000_000, ["a", "b"], (4, 0.5))
    assert from_flags("--agent.entropy", "none") == Settings()
    assert from_flags() == Settings()


@pytest.mark.parametrize("flag", ["--agent.gama=1", "--agent.gama"])
def test_an_unknown_flag_lists_those_of_its_section(flag: str):
    with pytest.raises(UnknownNameError) as error:
        from_flags(flag)
    assert error.value.known[:2] == ["--agent.gamma", "--agent.feedback"]
    assert "--steps" not in error.value.known


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--steps", "1.5"], "whole number"),
        (["--steps", "x"], "whole number"),
        (["--agent.feedback", "maybe"], "true or false"),
        (["--agent.mode", "x"], "tuned, fixed"),
        (["--agent.layers", "1,x"], "agent.layers"),
        (["--pair", "1,2,3"], "a list of 2"),
    ],
)
def test_a_wrong_flag_says_what_was_expected(flags: list[str], word: str):
    with pytest.raises((SettingError, UnknownNameError), match=word):
        from_flags(*flags)


def test_help_shows_help_text_and_default():
    parser = argparse.ArgumentParser()
    settings_io.add_flags(parser, Settings(Agent(gamma=0.75)))
    text = parser.format_help()
    assert "--agent.gamma NUMBER" in text
    assert "discount; 98% is kept (default: 0.75)" in " ".join(text.split())
    assert "--agent.mode {tuned,fixed}" in text


def test_toml_json_and_the_configuration_of_a_run_are_read(tmp_path):
    (tmp_path / "a.toml").write_text("steps = 5\n[agent]\ngamma = 0.5\n")
    (tmp_path / "a.json").write_text('{"steps": 5, "agent": {"gamma": 0.5}}')
    settings_io.write_json(
        tmp_path / "config.json",
        {"settings": {"steps": 5, "agent": {"gamma": 0.5}}, "command": "safetransfer train"},
    )
    for name in ("a.toml", "a.json", "config.json"):
        data = settings_io.read_settings(tmp_path / name)
        assert settings_io.from_dict(Settings, data) == Settings(Agent(gamma=0.5), steps=5)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.toml", "steps = ", "TOML"),
        ("a.json", "{", "JSON"),
        ("a.json", "[1]", "table"),
        ("a.json", '{"settings": 3}', "table"),
        ("missing.json", None, "No such file"),
    ],
)
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path, name, text, word):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=word) as error:
        settings_io.read_settings(tmp_path / name)
    assert name in str(error.value)


def test_differences_name_each_leaf():
    old = settings_io.to_dict(Settings())
    new = settings_io.to_dict(Settings(Agent(gamma=0.5, entropy=1.0)))
    assert settings_io.differences(old, new) == [
        "agent.gamma: 0.98 -> 0.5",
        "agent.entropy: none -> 1.0",
    ]
    assert settings_io.differences(old, old) == []
