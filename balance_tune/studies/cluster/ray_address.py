"""Reads RAY_ADDRESS and checks that a Ray answers there. Ray itself would wait 14 minutes for an answer."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from balance_tune.errors import UserError
from balance_tune.reachable import check_host
from balance_tune.timeouts import seconds

VARIABLE = "RAY_ADDRESS"
ALONE = ("", "local")
UNSET = f"unset {VARIABLE} for a Ray of the study's own"
FORM = "HOST:PORT of the cluster's head, as 10.0.0.1:6379"


def joins_cluster() -> bool:
    """Return whether RAY_ADDRESS names a cluster; empty or `local` it means a Ray of the study's own."""
    return os.environ.get(VARIABLE, "").strip() not in ALONE


def check_ray_address() -> None:
    """Check that a Ray answers at RAY_ADDRESS; nothing is checked where it is not set or `local`.

    Raises:
        UserError: it is of another form, or no Ray answers there within `BALANCE_TUNE_CONNECT_S` seconds.
    """
    if not joins_cluster():
        os.environ.pop(VARIABLE, None)  # Ray takes an empty one for an address
        return
    address = os.environ[VARIABLE].strip()
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme in ("http", "https"):
        raise UserError(
            f"{VARIABLE} must be {FORM}, but is {_without_secret(address)}, the address of a dashboard, which is for "
            f"`balance-tune submit --address`; {UNSET}."
        )
    if scheme == "ray":
        raise UserError(
            f"{VARIABLE} must be {FORM}, but is {_without_secret(address)}, an address of Ray Client, which runs no "
            f"studies; use `balance-tune submit`, or {UNSET}."
        )
    if address == "auto":
        address = _local_cluster()
    host, port = _parts(address)
    check_host(host, port, f"a Ray must answer at {VARIABLE}, but {_without_secret(address)} does not", UNSET)
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        _check_kind(host, port, address)


def ray_host() -> tuple[str, int]:
    """Return host and port of the cluster at RAY_ADDRESS."""
    address = os.environ[VARIABLE].strip()
    return _parts(_local_cluster() if address == "auto" else address)


def _check_kind(host: str, port: int, address: str) -> None:
    """Ask for the cluster's id. Every head of Ray answers, with the id or with a request for a token."""
    import grpc  # a dependency of Ray's

    limit = seconds("BALANCE_TUNE_CONNECT_S")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    others = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED)
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=limit)
        except grpc.RpcError as error:
            if error.code() in others:
                raise UserError(
                    f"a Ray must answer at {VARIABLE}, but what listens at {_without_secret(address)} is none; {UNSET}."
                ) from error


def _local_cluster() -> str:
    """Return the address of the Ray that `auto` means: the one that was started on this machine."""
    from ray._private.services import find_bootstrap_address

    address = find_bootstrap_address(os.environ.get("RAY_TMPDIR"))
    if not address:
        raise UserError(f"{VARIABLE} is auto, but no Ray runs here; start one (`ray start --head`), or {UNSET}.")
    return str(address)


def _parts(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if "://" in address or not host or not port or parts.path:
        raise UserError(f"{VARIABLE} must be {FORM}, but is {_without_secret(address)}; {UNSET}.")
    return host, port


def _without_secret(address: str) -> str:
    return f"`{address.rpartition('@')[2][:80]}`"
