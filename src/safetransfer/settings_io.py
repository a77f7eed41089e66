"""Settings as plain data: a tree of dataclasses to and from dicts, JSON and TOML files, and flags.

A setting is a dataclass field; a section is a field that is itself a dataclass, or one of several
(``A | B``): data with the fields that have no default in one of these is of that kind. The help
text of a field is its ``metadata={"help": ...}``. Supported types: bool, int, float, str,
``Literal``, ``X | None``, ``tuple[...]``, ``list[X]``, ``dict[str, Any]`` (of JSON values) and
nested dataclasses. Every value that comes from outside is checked here, so that the rest of the
program may trust its settings.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from safetransfer.errors import SettingError, UnknownNameError

T = TypeVar("T")

_FLAG = "setting:"  # namespace prefix that keeps setting flags apart from a command's own options
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


# ---------------------------------------------------------------- dataclasses <-> plain data


def to_dict(settings: Any) -> dict[str, Any]:
    """The tree as nested dicts of JSON values; tuples become lists, infinities ``"inf"``."""
    return {f.name: _plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Builds ``cls`` from nested dicts; fields that are left out take their defaults.

    Raises UnknownNameError for a field that does not exist, listing those of its section, and
    SettingError for a value of the wrong type, or one that the dataclass itself refuses.
    """
    values = _checked_fields(cls, data, where)
    for name in sorted(_required(cls) - values.keys()):
        raise SettingError(f"{where}{'.' if where else ''}{name} is missing, and has no default")
    return cls(**values)


def updated(settings: T, changes: Mapping[str, Any], where: str = "") -> T:
    """A copy of ``settings`` with ``changes`` (nested and partial) applied; raises as from_dict."""
    values = _checked_fields(type(settings), changes, where, settings)
    return dataclasses.replace(settings, **values)  # type: ignore[type-var]


def with_defaults(cls: type[Any], data: Any) -> dict[str, Any]:
    """Recorded settings with what did not exist yet when they were recorded, at its default.

    What cannot be settings of a ``cls`` at all is returned as it is.
    """
    if not data:
        return data
    try:
        return json.loads(json.dumps(to_dict(from_dict(cls, data))))
    except (SettingError, UnknownNameError):
        return data


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines such as ``agent.gamma: 0.98 -> 0.99`` for every leaf that differs between two dicts."""
    lines = []
    for key in [*old, *(k for k in new if k not in old)]:
        before, after, name = old.get(key, "(none)"), new.get(key, "(none)"), f"{prefix}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{name}.")
        elif before != after:
            lines.append(f"{name}: {_shown(before)} -> {_shown(after)}")
    return lines


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of dicts within dicts by their full names, such as ("agent.gamma", 0.98)."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _checked_fields(
    cls: type, data: Mapping[str, Any], where: str, current: Any = None
) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise SettingError(
            f"{where or 'settings'}: got {_shown(data)}, expected a table of settings"
        )
    hints, known = _hints(cls), [f.name for f in dataclasses.fields(cls) if f.init]
    values: dict[str, Any] = {}
    for name, value in data.items():
        field = f"{where}.{name}" if where else str(name)
        if name not in known:
            section = f"setting of {where}" if where else "setting"
            raise UnknownNameError(section, str(name), known)
        kinds = _section_kinds(hints[name])
        if kinds:
            before = getattr(current, name, None)
            kind = _kind_meant(kinds, value, before)
            if type(before) is kind:
                values[name] = updated(before, value, field)
            else:
                values[name] = from_dict(kind, value, field)
        else:
            values[name] = _convert(value, hints[name], field)
    return values


def _section_kinds(hint: Any) -> tuple[type, ...]:
    """The dataclasses that a section can be of; none for a setting."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    return tuple(k for k in kinds if isinstance(k, type) and dataclasses.is_dataclass(k))


def _kind_meant(kinds: tuple[type, ...], data: Any, current: Any) -> type:
    """The kind whose fields without a default are in the data; else the current, else the first."""
    for kind in kinds:
        needed = _required(kind)
        if needed and isinstance(data, Mapping) and needed <= data.keys():
            return kind
    return kinds[0] if current is None else type(current)


def _required(cls: Any) -> set[str]:
    nothing = dataclasses.MISSING
    return {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is nothing and f.default_factory is nothing
    }


def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return str(value) if isinstance(value, os.PathLike) else value


# ---------------------------------------------------------------- one value


def _convert(value: Any, hint: Any, field: str) -> Any:
    """``value`` (JSON data) as the type ``hint``, or a SettingError that says what was expected."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise UnknownNameError(f"value of {field}", str(value), map(str, args))
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [arg for arg in args if arg is not type(None)]
        if len(rest) == 1:
            try:
                return _convert(value, rest[0], field)
            except UnknownNameError:
                raise
            except SettingError:
                raise _wrong(field, value, hint) from None
        for arg in rest:
            try:
                return _convert(value, arg, field)
            except (SettingError, UnknownNameError):
                continue
        raise _wrong(field, value, hint)
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        alike = origin is list or args[-1] is Ellipsis
        kinds = [args[0]] * len(value) if alike else list(args)
        if len(kinds) != len(value):
            raise _wrong(field, value, hint)
        items = [
            _convert(v, kind, f"{field}[{i}]")
            for i, (v, kind) in enumerate(zip(value, kinds, strict=True))
        ]
        return origin(items)
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if hint is bool and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise _wrong(field, value, hint)
    # Files and flags write large counts as 1e6, which JSON and TOML read as a float.
    if hint is int and isinstance(value, (int, float)):
        if isinstance(value, int) or value.is_integer():
            return int(value)
        raise _wrong(field, value, hint)
    if hint is float:
        if value in ("inf", "-inf"):
            return float(value)
        if isinstance(value, (int, float)):
            with contextlib.suppress(OverflowError):  # a whole number beyond every float
                if not math.isnan(value):
                    return float(value)
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise _wrong(field, value, hint)


def _parse(text: str, hint: Any, field: str) -> Any:
    """A flag's text as the type ``hint``: ``true``, ``1e6``, ``none``, ``32,64,64``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    lowered = text.strip().lower()
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and lowered == "none":
            return None
        rest = [arg for arg in args if arg is not type(None)]
        for arg in rest[:-1]:
            try:
                return _parse(text, arg, field)
            except SettingError:
                continue
        return _parse(text, rest[-1], field)
    if origin is Literal:
        return _convert(next((c for c in args if str(c) == text), text), hint, field)
    if origin in (tuple, list):
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        kinds = list(args) if origin is tuple and args[-1] is not Ellipsis else [args[0]]
        if len(kinds) not in (1, len(parts)):
            raise _wrong(field, text, hint)
        kinds = kinds if len(kinds) == len(parts) else kinds * len(parts)
        return origin(_parse(p.strip(), kind, field) for p, kind in zip(parts, kinds, strict=True))
    if origin is dict:
        try:
            return _convert(json.loads(text), hint, field)
        except (ValueError, RecursionError):
            raise _wrong(field, text, hint) from None
    if hint is bool:
        if lowered in _TRUE + _FALSE:
            return lowered in _TRUE
        raise _wrong(field, text, hint)
    if hint in (int, float):
        try:
            value: int | float = int(text) if hint is int else float(text)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                raise _wrong(field, text, hint) from None
        return _convert(value, hint, field)
    return _convert(text, hint, field)


def _wrong(field: str, value: Any, hint: Any) -> SettingError:
    return SettingError(f"{field}: got {_shown(value)}, expected {describe(hint)}")


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(_plain(value), default=repr)


def describe(hint: Any) -> str:
    """A type in words: ``a whole number``, ``none or a number``, ``a list of whole numbers``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(arg) for arg in args)
    if origin in (tuple, list):
        if origin is list or args[-1] is Ellipsis:
            return f"a list, each item {describe(args[0])}"
        return f"a list of {len(args)}: " + ", ".join(describe(arg) for arg in args)
    if origin is dict:
        return "a table (as a flag: a JSON object)"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        Path: "a path",
        type(None): "none",
    }
    return names.get(hint, str(hint))


# ---------------------------------------------------------------- files


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a file: all of it, or its part ``settings`` as in a run's ``config.json``."""
    data = read_file(path)
    settings = data.get("settings", data)
    if not isinstance(settings, dict):
        raise SettingError(f"{path}: settings: got {_shown(settings)}, expected a table")
    return settings


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The nested dict in a JSON or TOML file; SettingError where it cannot be read."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise SettingError(f"cannot read the settings in {path}: {reason}") from None
    try:
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise SettingError(f"{path} is not {kind}: {error}") from None
    if not isinstance(data, dict):
        raise SettingError(f"{path}: got {_shown(data)}, expected a table of settings")
    return data


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Writes ``data`` as indented JSON, whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


# ---------------------------------------------------------------- flags


def add_flags(parser: argparse.ArgumentParser, settings: Any, prefix: str = "") -> None:
    """Adds a flag ``--section.name VALUE`` for every setting, in one group for each section.

    The help shows each field's help text and its value in ``settings`` as the default. A flag that
    is not given leaves no trace in the namespace, so that defaults of presets and files stand.
    """
    group = parser.add_argument_group(f"{prefix} settings" if prefix else "settings")
    hints = _hints(type(settings))
    for field in dataclasses.fields(settings):
        name = f"{prefix}.{field.name}" if prefix else field.name
        value, hint = getattr(settings, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            add_flags(parser, value, name)
            continue
        text = f"{field.metadata.get('help', '')} (default: {_flag_text(value)})".strip()
        group.add_argument(
            f"--{name}",
            dest=f"{_FLAG}{name}",
            default=argparse.SUPPRESS,
            metavar=_metavar(hint),
            help=text.replace("%", "%%"),
        )


def add_alias(parser: argparse.ArgumentParser, flag: str, name: str) -> None:
    """Adds a shorter ``flag`` for the setting ``name`` (dotted)."""
    parser.add_argument(
        flag,
        dest=f"{_FLAG}{name}",
        default=argparse.SUPPRESS,
        metavar=name.rpartition(".")[2].upper(),
        help=f"the same as --{name}",
    )


def apply_flags(settings: T, arguments: argparse.Namespace) -> T:
    """``settings`` with the flags that were given; raises UnknownNameError and SettingError."""
    return updated(settings, parse_changes(settings, given_flags(arguments)))


def given_flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The texts of the settings that were given as flags, by dotted name."""
    return {
        dest.removeprefix(_FLAG): text
        for dest, text in vars(arguments).items()
        if dest.startswith(_FLAG)
    }


def parse_changes(settings: Any, texts: Mapping[str, str]) -> dict[str, Any]:
    """Changes for `updated` from texts by dotted name: ``{"agent.lr": "1e-4"}``."""
    changes: dict[str, Any] = {}
    for dotted, text in texts.items():
        *sections, name = dotted.split(".")
        node, branch = settings, changes
        for section in sections:
            _field(type(node), section, dotted)
            node, branch = getattr(node, section), branch.setdefault(section, {})
        hint = _field(type(node), name, dotted)
        if _section_kinds(hint):
            raise SettingError(f"{dotted} is a section of settings, not a setting")
        branch[name] = _parse(text, hint, dotted)
    return changes


def _field(cls: Any, name: str, dotted: str) -> Any:
    known = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    if name not in known:
        raise UnknownNameError("setting", dotted, known)
    return _hints(cls)[name]


def unknown_flag(flag: str, parser: argparse.ArgumentParser) -> UnknownNameError:
    """The error for a flag that ``parser`` does not know; lists those of the flag's section."""
    flag = flag.split("=")[0]
    known = [option for option in parser._option_string_actions if option.startswith("--")]
    section, dot, _ = flag.rpartition(".")
    siblings = [option for option in known if option.startswith(section + dot)] if dot else []
    if not dot:  # a setting's own name, without its section
        named = [option for option in known if option.endswith("." + flag.removeprefix("--"))]
        if named:
            return UnknownNameError("option", flag, named)
    own = [option for option in known if "." not in option]
    sections = sorted({option.split(".")[0] + ".*" for option in known if "." in option})
    return UnknownNameError("setting" if dot else "option", flag, siblings or own + sections)


def _metavar(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "{" + ",".join(map(str, args)) + "}"
    if origin in (typing.Union, types.UnionType):
        return "|".join("none" if arg is type(None) else _metavar(arg) for arg in args)
    if origin in (tuple, list):
        return f"{_metavar(args[0])},..."
    if origin is dict:
        return "JSON"
    return {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT"}.get(hint, "VALUE")


def _flag_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(map(_flag_text, value))
    if isinstance(value, Mapping):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)
