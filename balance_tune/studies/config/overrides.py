"""`key=value` on a command line: sets one entry of a study file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.wording import one_line, shown

DEEPEST = 20  # levels of a study file, more than any setting needs


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `raw` with each `a.b=value` set, the value read as YAML; the last of several for one key holds.

    `raw` itself is not changed. The schema checks later that the key exists.

    Raises:
        UserError: not of the form key=value, a value that is not YAML, or a key that leads through something that is
            not a mapping.
    """
    result: dict[str, Any] = _copy(raw)
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if len(parts) > DEEPEST:
            raise UserError(f"a setting lies at most {DEEPEST} levels deep, but {shown(override)} has {len(parts)}.")
        if not equals or not all(parts):
            raise UserError(f"an override must look like `search.trials=4`, but got {shown(override)}.")
        try:
            value = strict_yaml.parse(text)
        except UserError as error:
            message = one_line(str(error)).removeprefix("line 1: ")
            raise UserError(f"the value of override {shown(override)} {message}") from None
        inner = result
        for i, part in enumerate(parts[:-1]):
            if inner.get(part) is None:
                inner[part] = {}
            if not isinstance(inner[part], dict):
                at = ".".join(parts[: i + 1])
                raise UserError(
                    f"an override must lead to a setting, but in {shown(override)} `{at}` is {shown(inner[part])}."
                )
            inner = inner[part]
        inner[parts[-1]] = value
    return result


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value
