"""Checks outside the cluster's nodes: other Rays on this host, the token, MLflow, the folder that a submit uploads."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from balance_tune.studies.doctor.finding import Finding, fail, ok, warn

MIB = 2**20
LOOPBACK = ("localhost", "127.", "[::1]", "::1", "local")


def instances(others: Sequence[str], address: str | None) -> Finding:
    """Whether this host has other Rays (`others`) than the one that a study would use."""
    if not others:
        return ok("instances", "no other Ray on this host")
    shown = ", ".join(sorted(others)[:4])
    if address:
        return ok("instances", f"RAY_ADDRESS is {address}, so a study does not use {shown} on this host")
    if len(others) == 1:
        return warn(
            "instances",
            f"another Ray runs on this host ({shown}), and a study would start one more",
            "set RAY_ADDRESS to join it, or end it by its process id",
        )
    return fail(
        "instances",
        f"{len(others)} Rays run on this host ({shown}), so tools that look for one may find the wrong one",
        "set RAY_ADDRESS to the one that is meant, and end the others by their process ids",
    )


def token(environment: Mapping[str, str], address: str | None, home: Path) -> Finding:
    """Whether the cluster asks for a token, and whether this machine has one."""
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
    present = bool(environment.get("RAY_AUTH_TOKEN"))
    remote = bool(address) and not str(address).split("://")[-1].startswith(LOOPBACK)
    if mode not in ("", "token", "disabled"):
        return fail("token", f"RAY_AUTH_MODE is `{mode}`", "set it to `token`")
    if mode == "token" or (not mode and not address):
        if present:
            return ok("token", "RAY_AUTH_TOKEN is set")
        if path.is_file():
            if _others_read(path):
                return warn("token", f"others may read {path}", f"run `chmod 600 {path}`")
            return ok("token", f"{path} is there and private")
        if address:
            return fail(
                "token",
                f"RAY_AUTH_MODE is `token`, but there is no token in {path}",
                "put the cluster's token there (mode 600), or set RAY_AUTH_TOKEN_PATH",
            )
        return ok("token", "Ray makes one for a local cluster when it starts")
    if remote:
        return fail(
            "token",
            f"RAY_AUTH_MODE is not `token`, so whoever reaches {address} runs code on it",
            "start the cluster with RAY_AUTH_MODE=token and set the same here",
        )
    return warn("token", "token authentication is off", "set RAY_AUTH_MODE=token where others use this machine")


def _others_read(path: Path) -> bool:
    """Return whether other users may read a file: its own rights, and those of the folders above it."""
    ways = all(stat.S_IMODE(folder.stat().st_mode) & 0o011 for folder in path.resolve().parents)
    return ways and bool(stat.S_IMODE(path.stat().st_mode) & 0o044)


def mlflow(shown: str, status: int | None, body: str) -> Finding:
    """Whether MLflow answers: `status` is that of a search over its API, None where nothing answered."""
    if status == 200:
        return ok("mlflow", f"{shown} answers")
    if status is None:
        return fail("mlflow", f"{shown} does not answer ({body})", "start it, or set MLFLOW_TRACKING_URI")
    if status == 403 and "host" in body.lower():
        return fail(
            "mlflow",
            f"{shown} refuses this host name (403: {body})",
            "start the server with --allowed-hosts (MLFLOW_SERVER_ALLOWED_HOSTS) naming it",
        )
    if status in (401, 403):
        return fail("mlflow", f"{shown} refuses this user ({status})", "set MLFLOW_TRACKING_USERNAME and _PASSWORD")
    return fail("mlflow", f"{shown} answers {status} ({body})", "look at the server's log")


def working_dir(path: str, size: int, largest: str, limit: int) -> Finding:
    """Whether `balance-tune submit` or `ray job submit --working-dir .` could send the folder; sizes in bytes."""
    text = f"{path} would send {size / MIB:.1f} of {limit / MIB:.0f} MiB"
    if size > limit:
        return fail("working dir", f"{text}, most of it in {largest}", "name what is not needed in a .rayignore")
    if size > limit / 2:
        return warn("working dir", f"{text}, most of it in {largest}", "name what is not needed in a .rayignore")
    return ok("working dir", text)
