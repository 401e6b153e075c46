"""Whether anything answers at an address that a user gave: a socket first, for seconds; libraries wait for minutes.

Each check ends in a `UserError` that names the setting, the address and what to do. How long it waits is
`BALANCE_TUNE_CONNECT_S` (5 s; see `timeouts`).
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import getproxies, proxy_bypass, urlopen

from balance_tune.errors import UserError
from balance_tune.timeouts import seconds

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_host(host: str, port: int, setting: str, remedy: str) -> None:
    """Connect to a host and leave it again.

    Args:
        host: name or address.
        port: TCP port.
        setting: the sentence that is true where nothing answers: "MLflow must answer, but http://host does not".
        remedy: what to do then.

    Raises:
        UserError: nothing answers within `BALANCE_TUNE_CONNECT_S` seconds.
    """
    limit = seconds("BALANCE_TUNE_CONNECT_S")
    deadline = time.monotonic() + limit
    reason = f"no answer within {limit:g} s"
    addresses = _resolved(host, port, limit)
    if isinstance(addresses, str):
        raise UserError(f"{setting} ({addresses}); {remedy}.")
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as connection:
            try:
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                connection.connect(address)
                return
            except TimeoutError:
                pass
            except OSError as error:
                reason = error.strerror or str(error)
    raise UserError(f"{setting} ({reason}); {remedy}.")


def _resolved(host: str, port: int, limit: float) -> list[Any] | str:
    """Return the addresses of a host, or why there are none; the resolver itself knows no time limit."""
    answers: list[list[Any] | str] = []

    def resolve() -> None:
        try:
            answers.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError):
            answers.append(f"the name {host} is not known")

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(limit)
    return answers[0] if answers else f"the name {host} is not resolved within {limit:g} s"


def check_url(url: str, setting: str, remedy: str) -> None:
    """Connect to the host of a URL (a server's, or a database's); one without a host is not checked.

    Where a proxy stands between (HTTP_PROXY and the like), it is the proxy that must answer.

    Raises:
        UserError: as `check_host`, or the URL cannot be read.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"{setting} (it cannot be read as an address: {_without(str(error))}); {remedy}.") from error
    scheme = parts.scheme.split("+")[0]
    if not host or "," in parts.netloc:  # a socket file; several hosts, of which one may be away
        return
    proxy = getproxies().get(scheme) if scheme in ("http", "https") else None
    if proxy and not proxy_bypass(host):
        between = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if between.hostname:
            setting = f"{setting}, behind the proxy {host_of(proxy)}"
            check_host(between.hostname, between.port or PORTS["http"], setting, remedy)
        return
    check_host(host, port or PORTS.get(scheme, 0), setting, remedy)


def check_http(url: str, setting: str, remedy: str) -> None:
    """Connect to the host of a URL and ask for something; any answer will do, a refusal too.

    Raises:
        UserError: as `check_url`, or what listens there does not answer as a web server.
    """
    check_url(url, setting, remedy)
    limit = seconds("BALANCE_TUNE_CONNECT_S")
    try:
        with urlopen(url, timeout=limit):
            pass
    except HTTPError:  # an answer
        pass
    except TimeoutError as error:
        raise UserError(f"{setting} (no answer within {limit:g} s); {remedy}.") from error
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLError):  # its certificate is the library's to judge
            return
        raise UserError(f"{setting} (what listens there is no web server); {remedy}.") from error


def check_bucket(uri: str) -> None:
    """Connect to the server of an object store's URI (s3, gs); others are not checked.

    Raises:
        UserError: as `check_host`.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    server = options.get("endpoint_override", "")
    scheme = options.get("scheme", "https")
    if parts.scheme == "s3":
        region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        server = server or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        server = server or f"s3.{region + '.' if region else ''}amazonaws.com{'.cn' * region.startswith('cn-')}"
    elif parts.scheme in ("gs", "gcs"):
        server = server or os.environ.get("STORAGE_EMULATOR_HOST") or "storage.googleapis.com"
    else:
        return
    where = server if "://" in server else f"{scheme}://{server}"
    bucket = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    setting = f"the object store of {bucket} must answer, but {host_of(where)} does not"
    check_url(where, setting, "start it, correct the address, or take a folder as --root")


def host_of(url: str) -> str:
    """Return host and port of a URL, as they may be shown."""
    return urlsplit(url if "://" in url else f"//{url}").netloc.rpartition("@")[2]


def _without(text: str) -> str:
    """Return a message without the address, which may hold a password."""
    return "a port must be a number" if "ort" in text else "its brackets or its host are wrong"
