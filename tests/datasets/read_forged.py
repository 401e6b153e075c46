"""Reads forged files: `python -m tests.datasets.read_forged KIND COUNT SEED` reads COUNT of them.

The process prints one line of JSON, {"read": n, "refused": n, "peak": bytes, "base": bytes}; anything that is neither a
value nor one line of a message ends it with a traceback and status 1. `peak` is the most memory that it and its
children took, `base` the same after 20 files, when everything is imported.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
from pathlib import Path

from balance_tune.datasets.decoding import Unreadable
from balance_tune.errors import UserError
from tests.datasets import forging, forging_tables

READERS = {**forging.READERS, **forging_tables.READERS}


def peak() -> int:
    forging_tables.READER.close()  # what a child has taken is known when it has ended
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1024 * (own + children)


def main(kind: str, count: int, seed: int) -> None:
    forge, read = READERS[kind]
    counts = {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forged"
        base = 0
        for number in range(seed, seed + count):
            if number == seed + 20:  # what is imported is imported by now
                base = peak()
            path.write_bytes(forge(random.Random(f"{kind} {number}")))
            try:
                read(path)
                counts["read"] += 1
            except (UserError, Unreadable) as error:
                if len(str(error).splitlines()) != 1:
                    raise
                counts["refused"] += 1
            except BaseException:
                print(f"file {number} of kind {kind}", file=sys.stderr)
                raise
    print(json.dumps({**counts, "base": base, "peak": peak()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
