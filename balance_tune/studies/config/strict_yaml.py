"""Reads and writes study files as plain data: a strict subset of YAML 1.2 that can neither run code nor explode."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from balance_tune.errors import UserError
from balance_tune.studies.config.shipped import shipped_studies
from balance_tune.studies.wording import did_you_mean, nearest, one_line, shown

LARGEST_FILE = 256 * 1024  # bytes; a study file has a few hundred
STUDY = "a study file"
DEEPEST = 12  # levels of nesting; a study file has four
LARGEST_INT = 2**63  # what JSON readers, sqlite and numpy can hold

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}  # the core schema of YAML 1.2: `no` and `on` are words, `1e-3` is a number, `010` is ten


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases and of bounded depth; `_value` makes plain data of them."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own way to start from nothing)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise _refusal(event.start_mark, f"aliases are not allowed, but got `*{event.anchor}`; write it out.")
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _refusal(mark, f"at most {DEEPEST} levels may be nested.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text exactly where `_Loader` would take it for something else."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _kind, _pattern, _first)


def _refusal(mark: yaml.Mark, rule: str) -> UserError:
    return UserError(f"line {mark.line + 1}: {rule}")


def _value(node: yaml.Node) -> Any:
    tag = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.MappingNode) and tag == "map":
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode) and tag == "seq":
        return [_value(child) for child in node.value]
    if isinstance(node, yaml.ScalarNode) and tag in (*_SCALARS, "str"):
        return _scalar(node, tag)
    raise _refusal(node.start_mark, f"tags are not allowed, but got {shown(node.tag)}.")


def _mapping(node: yaml.MappingNode) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _value(key_node)
        if not isinstance(key, str):
            raise _refusal(key_node.start_mark, f"a key must be text, but got {shown(key)}; put it in quotes.")
        if key in entries:
            raise _refusal(key_node.start_mark, f"a key must be given once, but {shown(key)} is given twice.")
        entries[key] = _value(value_node)
    return entries


def _scalar(node: yaml.ScalarNode, tag: str) -> Any:
    text = node.value
    if tag == "str":
        return text
    if not _SCALARS[tag][0].match(text):
        raise _refusal(node.start_mark, f"{shown(text)} is not of the kind its tag says ({tag}).")
    try:
        match tag:
            case "int":
                return int(text)
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            case "bool":
                return text.lower() == "true"
    except ValueError:  # Python refuses to read thousands of digits
        raise _refusal(node.start_mark, f"a number must be below 2^63, but got {shown(text)}.") from None
    return None


def parse(text: str) -> Any:
    """Return the plain value of a YAML text.

    Raises:
        UserError: not YAML, or YAML beyond plain data (aliases, tags, several documents, a key that is not text or is
            given twice, an endless or non-finite number, nesting deeper than 12); one line that starts with the place.
    """
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{place}must be valid YAML, but {one_line(what)}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"must be valid YAML, but: {one_line(str(error))}.") from None
    return None if node is None else plain(_value(node))


def read(path: Path, what: str = STUDY) -> dict[str, Any]:
    """Return the mapping in the YAML file at `path`; anything else there is a `UserError` that names the file.

    Args:
        path: of the file.
        what: the file is, for messages.
    """
    if path.is_dir():
        raise UserError(f"{what} must be a file, but {shown(str(path))} is a folder.")
    if path.is_fifo():  # opening it waits for a process that writes
        raise UserError(f"{what} must be a file, but {shown(str(path))} is a pipe.")
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{what} must be readable, but {shown(str(path))}: {reason}.{_beside(path, what)}") from None
    if len(raw) > LARGEST_FILE:
        raise UserError(f"{what} must be at most {LARGEST_FILE // 1024} KiB, but {shown(str(path))} is larger.")
    try:
        value = parse(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text, but byte {error.start} is not; save it as UTF-8.") from None
    except UserError as error:
        raise UserError(one_line(f"{path}: {error}")) from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold settings as `key: value`, but holds {shown(value)}.")
    return value


def _beside(path: Path, what: str) -> str:
    """Return a hint at the file, or at the shipped study, that may have been meant."""
    try:
        names = sorted(p.name for p in path.parent.glob("*.y*ml")) if not path.exists() else []
    except (OSError, ValueError):
        return ""
    names += shipped_studies() if what == STUDY else []
    return did_you_mean(path.name, names) if nearest(path.name, names) else ""


def dump(value: Mapping[str, Any]) -> str:
    """Return YAML that `parse` reads back as the same value, in the given order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110, default_flow_style=None)


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """Return a value as plain data (None, bool, int, float, str, list, dict with text keys), all numbers finite.

    Tuples become lists, any mapping a dict.

    Raises:
        UserError: something else is in it, with the dotted place where.
    """
    place = f"`{where}`" if where else "a value"
    if depth > DEEPEST:
        raise UserError(f"at most {DEEPEST} levels may be nested.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        if abs(value) >= LARGEST_INT:
            raise UserError(f"{place} must be below 2^63, but got {shown(value)}.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"{place} must be a finite number, but got {shown(value)}.")
        return float(value)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        entries = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise UserError(f"a key must be text, but got {shown(key)}{f' in {place}' if where else ''}.")
            entries[str(key)] = plain(item, f"{where}.{one_line(key[:60])}" if where else one_line(key[:60]), depth + 1)
        return entries
    raise UserError(f"{place} must be text, a number, a list or a mapping, but got {shown(type(value).__name__)}.")
