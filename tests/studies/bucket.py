"""A bucket of a real S3 endpoint on the loopback, with keys that tests look for where they must not be."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pyarrow import fs

SECRET = "kept-secret-9c"


@dataclass(frozen=True)
class Bucket:
    """An empty bucket; `uri` is of a prefix in it."""

    name: str
    endpoint: str

    @property
    def uri(self) -> str:
        return self.at("studies")

    def at(self, prefix: str) -> str:
        return f"s3://{self.name}/{prefix}?scheme=http&endpoint_override={self.endpoint}&region=us-east-1"

    @property
    def system(self) -> Any:
        return fs.FileSystem.from_uri(self.uri)[0]

    def objects(self, prefix: str = "studies") -> list[str]:
        """Return the objects below a prefix, relative to it."""
        base = f"{self.name}/{prefix}"
        found = self.system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(base + "/") for info in found if info.is_file)

    def read(self, key: str) -> bytes:
        with self.system.open_input_stream(f"{self.name}/studies/{key}") as stream:
            content: bytes = stream.read()
        return content

    def write(self, key: str, content: bytes) -> None:
        with self.system.open_output_stream(f"{self.name}/studies/{key}") as stream:
            stream.write(content)

    def json(self, key: str) -> Any:
        return json.loads(self.read(key))


@contextmanager
def endpoint(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run an S3 endpoint in a thread, and have this process and its children hold keys for it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**own, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        patch.setenv(name, value)
    try:
        yield f"{host}:{port}"
    finally:
        server.stop()


def made(endpoint: str, name: str) -> Bucket:
    """Return a new bucket."""
    options = f"scheme=http&endpoint_override={endpoint}&region=us-east-1&allow_bucket_creation=true"
    fs.FileSystem.from_uri(f"s3://{name}?{options}")[0].create_dir(name)
    return Bucket(name, endpoint)
