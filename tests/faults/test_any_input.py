"""Whatever a study file holds and whatever stands on the command line: it runs, or one line says what is wrong."""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balance_tune.cli import COMMANDS, main
from balance_tune.errors import UserError
from balance_tune.studies.loading import load_config
from tests.studies.config.test_schema import VALUES, WORDS, nearly_right

pytestmark = pytest.mark.faults
QUICKSTART = (Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml").read_bytes()
FILES, COMMANDED = 10_000, 50
PIECES = [b":", b"- ", b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system [ls]", b"\t", b"{", b"]", b"\xff"]
PIECES += [b"'", b'"', b"| ", b"%YAML 9", b"---\n", b"...\n", b"1e400", b"-.inf", b"0x7f", b"\x00", "\u2028ü".encode()]
BOMB = b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 120))


@st.composite
def scarred(draw: st.DrawFn) -> bytes:
    """The quickstart's file with a few places cut out, doubled, or with something put in."""
    text = QUICKSTART
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6) | st.just(text[start:stop] * 2))
        text = text[:start] + piece + text[stop:]
    return text


def dumped(raw: dict[str, Any]) -> bytes:
    return yaml.safe_dump(raw, allow_unicode=True).encode("utf-8", "surrogatepass")


FILE = (
    nearly_right().map(dumped)
    | st.dictionaries(WORDS | st.text(max_size=5), VALUES, max_size=6).map(dumped)
    | scarred()
    | st.binary(max_size=200)
    | st.sampled_from([BOMB, b"", b"[" * 5000, b"a: " * 3000, QUICKSTART.decode().encode("utf-16"), b"x" * 3_000_000])
)


def test_ten_thousand_study_files_load_or_end_in_one_line(tmp_path: Path) -> None:
    file, seen, kept = tmp_path / "study.yaml", Counter[str](), random.Random(0)
    chosen: list[bytes] = []

    @settings(max_examples=FILES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(FILE)
    def loads(content: bytes) -> None:
        file.write_bytes(content)
        message = ""
        try:
            load_config(file)
        except UserError as error:
            message = str(error)
        seen["one line" if message else "a study"] += 1
        assert message.isprintable()
        assert len(message) < 1500
        if kept.random() < 0.02:
            chosen.append(content)

    loads()
    print(dict(seen))
    assert seen.total() >= FILES
    assert min(seen["a study"], seen["one line"]) > FILES // 50, seen
    through_the_command(kept.sample(chosen, COMMANDED), tmp_path)


def through_the_command(files: list[bytes], folder: Path) -> None:
    statuses: Counter[int] = Counter()
    for i, content in enumerate(files):
        file = folder / f"{i}.yaml"
        file.write_bytes(content)
        ended = subprocess.run(
            [sys.executable, "-m", "balance_tune", "plan", str(file), "--no-measure", "--root", str(folder / "root")],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        statuses[ended.returncode] += 1
        assert ended.returncode in (0, 2), ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.returncode == 0 or len(ended.stderr.splitlines()) == 1, ended.stderr
    print(dict(statuses))


ARGUMENTS = (
    st.sampled_from([*COMMANDS, "--root", "-f", "json", "table", "--help", "--no-measure", "--version", "--", "-x"])
    | st.sampled_from(["search.trials=4", "datasets=[av_digits]", "=", "a=b=c", "training.lr={", "name=../x", "name="])
    | st.text(max_size=12)
)


@settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ARGUMENTS, max_size=5))
def test_any_command_line_runs_or_ends_in_one_line(argv: list[str]) -> None:
    if argv[:1] and argv[0] in ("ui", "submit"):  # servers; what stands behind them is parsed alike
        argv = ["status", *argv[1:]]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir("/"), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(["--root", "/dev/null/root", *argv])
        except SystemExit as left:  # argparse: --help, --version
            status = int(left.code or 0)
    assert status in (0, 2), err.getvalue()
    assert status == 0 or len(err.getvalue().splitlines()) == 1, err.getvalue()
