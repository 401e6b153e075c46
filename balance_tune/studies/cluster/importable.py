"""Checks before the first trial that Ray's workers can import the user's own classes that a study names."""

from __future__ import annotations

from collections.abc import Sequence

from balance_tune.errors import UserError
from balance_tune.studies.cluster.preflight import ANSWER_WITHIN, task_on
from balance_tune.studies.protocol.own_names import OwnName, class_of, module_of
from balance_tune.studies.wording import one_line


def check_modules(names: Sequence[OwnName]) -> None:
    """Raise a `UserError` where a class has no module that another process could import."""
    for kind, name in names:
        if module_of(kind, name) == "__main__":
            raise UserError(
                f"a study's own classes must be importable by Ray's workers, but {kind} `{name}` is defined in the "
                "notebook or script that runs the study; put it into a module (a .py file) and import it from there."
            )


def check_workers(names: Sequence[OwnName]) -> None:
    """Look the names up in a worker of every living node. To be called with Ray connected.

    Raises:
        UserError: a worker cannot import one of them.
    """
    if not names:
        return
    import ray

    hostnames = {
        task_on(n, missing_here).remote(list(names)): n["NodeManagerHostname"] for n in ray.nodes() if n["Alive"]
    }
    ray.wait(list(hostnames), num_returns=len(hostnames), timeout=ANSWER_WITHIN)
    for reference, node in hostnames.items():
        try:
            wrong = ray.get(reference, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            wrong = f"it did not answer within {ANSWER_WITHIN:g} s"
        except ray.exceptions.RayError as error:
            wrong = str(error).strip().splitlines()[-1][:200]
        if wrong:
            raise UserError(
                one_line(
                    f"Ray's workers must import what the study names, but on {node}: {wrong.rstrip('.')}. A Ray that "
                    "runs already has the PYTHONPATH that it was started with."
                )
            )


def missing_here(names: Sequence[OwnName]) -> str:
    """Return why a name cannot be looked up in this process; nothing where all can."""
    for kind, name in names:
        try:
            class_of(kind, name)
        except UserError as error:
            if ":" in name:
                return str(error)  # its message says how to make the module importable
            return f"there is no {kind} `{name}`; announce it by an entry point (docs/extending.md)"
    return ""
