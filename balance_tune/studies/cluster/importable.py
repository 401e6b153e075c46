"""Before the first trial: whether Ray's workers can import the user's own classes that a study names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.registry import Registry, encoders, fusions, import_path, modulations
from balance_tune.studies.cluster.preflight import ANSWER_WITHIN, task_on
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig

OURS = "balance_tune"
Named = tuple[str, str]
"""Kind ("method", "fusion", "encoder", "model") and registered name, or import path."""
REGISTRIES = {"method": modulations, "fusion": fusions, "encoder": encoders}


def own_names(config: StudyConfig) -> list[Named]:
    """Return the classes of other packages that trials of a study need, in the order in which it names them."""
    named: list[Named] = [("method", entry.method) for entry in config.methods]
    named += [("model", config.model.name)] if config.model.name else [("fusion", config.model.fusion)]
    named += [("encoder", encoder["name"]) for encoder in config.model.encoders.values() if "name" in encoder]
    paths = (text for text in _texts(config.search.space.get("model", {})) if ":" in text)
    named += [("encoder" if config.model.name is None else "model", path) for path in paths]
    return [name for name in dict.fromkeys(named) if _module(*name).partition(".")[0] != OURS]


def check_modules(names: Sequence[Named]) -> None:
    """Raise a `UserError` where a class has no module that another process could import."""
    for kind, name in names:
        if _module(kind, name) == "__main__":
            raise UserError(
                f"a study's own classes must be importable by Ray's workers, but {kind} `{name}` is defined in the "
                "notebook or script that runs the study; put it into a module (a .py file) and import it from there."
            )


def check_workers(names: Sequence[Named]) -> None:
    """Look the names up in a worker of every living node. To be called with Ray connected.

    Raises:
        UserError: a worker cannot import one of them.
    """
    if not names:
        return
    import ray

    asked = {task_on(n, missing_here).remote(list(names)): n["NodeManagerHostname"] for n in ray.nodes() if n["Alive"]}
    ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_WITHIN)
    for reference, node in asked.items():
        try:
            wrong = ray.get(reference, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            wrong = f"it did not answer within {ANSWER_WITHIN:g} s"
        except ray.exceptions.RayError as error:
            wrong = str(error).strip().splitlines()[-1][:200]
        if wrong:
            raise UserError(
                one_line(
                    f"Ray's workers must import what the study names, but on {node}: {wrong.rstrip('.')}; put its "
                    "folder on PYTHONPATH (of a Ray that runs already: before it starts), or install it as a package."
                )
            )


def missing_here(names: Sequence[Named]) -> str:
    """Return why a name cannot be looked up in this process; nothing where all can."""
    for kind, name in names:
        try:
            _class(kind, name)
        except UserError as error:
            return str(error).partition("; did you mean")[0].partition("; There are")[0]
    return ""


def _class(kind: str, name: str) -> Any:
    if ":" in name:
        return import_path(f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}", name)
    registry: Registry = REGISTRIES[kind]()
    return registry.get(name)


def _module(kind: str, name: str) -> str:
    return name.partition(":")[0] if ":" in name else str(_class(kind, name).__module__)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
