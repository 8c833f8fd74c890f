"""Spaces as they are written: in Python, in JSON, in YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuning.ranges import Cases, Choice, Float, Int, Range, Single, conditions
from zoo.core.naming import nearest

_KINDS: Mapping[str, frozenset[str]] = {
    "choice": frozenset(),
    "int": frozenset({"step", "sampling"}),
    "float": frozenset({"step", "sampling"}),
}
_ALL = ("when", "default")


def read(name: str, given: Any) -> Range:
    """A range from what is written for it: a plain value is fixed, a list is a choice, a list of ranges are cases.

        0.1    [16, 32]    {"choice": [[32, 64], [64, 128]]}    {"int": [2, 16], "when": {"recipe": "lora"}}
        {"float": [1e-5, 1e-2], "sampling": "log"}              [{"float": ..., "when": ...}, {"float": ..., ...}]

    Raises:
        ValueError: it is none of these; the message has the name.
    """
    try:
        return _read(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"The space's {name!r}: {error}") from None


def written(given: Range) -> Any:
    """A range as JSON values, which `read` reads as the same."""
    if isinstance(given, Cases):
        return [_object(each) for each in given.ranges]
    return _object(given)


def from_json(text: str) -> dict[str, Any]:
    """What a JSON text says of each name.

    Raises:
        ValueError: it is not JSON, no object, or has a name twice.
    """
    try:
        return _checked(json.loads(text, object_pairs_hook=_once))
    except json.JSONDecodeError as error:
        raise ValueError(f"This is not JSON: {error}.") from None


def from_file(path: Path) -> dict[str, Any]:
    """What a file says of each name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is neither JSON nor YAML, no object, or has a name twice.
    """
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ValueError("a space is in a file that ends in .json, .yaml or .yml.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}' to read a space from.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"This is no text in UTF-8: {error}.") from None
    return from_json(text) if path.suffix == ".json" else _from_yaml(text)


def _read(given: Any) -> Range:
    if isinstance(given, Choice | Int | Float | Cases):
        return given
    if isinstance(given, list | tuple):
        ranges = [isinstance(each, Choice | Int | Float) or _is_range(each) for each in given]
        if given and all(ranges):
            return Cases(*(_single(each) for each in given))
        if any(ranges):
            raise ValueError(f"{given!r} mixes values and ranges. Give ranges, each with a when, or values.")
        return Choice(values=given) if given else Choice()
    return _single(given) if isinstance(given, Mapping) else Choice(given)


def _is_range(given: Any) -> bool:
    return isinstance(given, Mapping) and any(kind in given for kind in _KINDS)


def _single(given: Any) -> Single:
    """A range from its object: the kind with its values, and options."""
    if isinstance(given, Choice | Int | Float):
        return given
    kinds = [kind for kind in _KINDS if kind in given]
    if len(kinds) != 1:
        raise ValueError(
            f"{given!r} is no range: it has one of choice, int and float, such as {{'choice': [16, 32]}}, "
            "{'int': [2, 16]} or {'float': [1e-5, 1e-2], 'sampling': 'log'}."
        )
    kind = kinds[0]
    options = {name: value for name, value in given.items() if name != kind}
    known = (*sorted(_KINDS[kind]), *_ALL)
    for name in options:
        if name not in known:
            raise ValueError(f"{given!r} has {name!r}.{nearest(str(name), known)} A {kind} has: {', '.join(known)}.")
    options["when"] = conditions(options.get("when"))
    if not isinstance(given[kind], list | tuple):
        raise ValueError(f"{kind!r} holds a list, not {given[kind]!r}.")
    if kind == "choice":
        return Choice(values=given[kind], **options) if given[kind] else Choice()
    if len(given[kind]) != 2:
        raise ValueError(f"{kind!r} holds the lowest and the highest value, not {given[kind]!r}.")
    low, high = given[kind]
    return Int(low, high, **options) if kind == "int" else Float(low, high, **options)


def _object(given: Single) -> dict[str, Any]:
    kind = {Choice: "choice", Int: "int", Float: "float"}[type(given)]
    found: dict[str, Any] = {kind: given.values if isinstance(given, Choice) else (given.low, given.high)}
    if not isinstance(given, Choice):
        found |= {} if given.step is None else {"step": given.step}
        found |= {} if given.sampling == "linear" else {"sampling": given.sampling}
    found |= {"when": dict(given.when)} if given.when else {}
    return found | ({} if given.default is None else {"default": given.default})


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """An object, in which each name is there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice.")
    return found


def _checked(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"A space is an object, ranges by their names: {{'batch': [16, 32]}}. This is {found!r:.60}.")
    return found


def _from_yaml(text: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's values: 1e-5 is a number, and on, off, yes, no and dates are texts; a name is there once."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # yaml's name, and its own kind of table

    for kind, pattern, first in (
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.nan", "-+.0123456789"),
    ):
        letters = [letter if letter != "\0" else "" for letter in first]
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), letters)
    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: _once(loader.construct_pairs(node, deep=True)))
    try:
        return _checked(yaml.load(text, Loader))
    except yaml.YAMLError as error:
        raise ValueError(f"This is not YAML: {' '.join(str(error).split())}.") from None
    except TypeError as error:  # a list or an object as a name
        raise ValueError(f"This is no space: {error}.") from None
