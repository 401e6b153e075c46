"""Environment x command: every row ends within 30 seconds, in success or in one line, and never in a traceback.

A row is a shell line, run by `sh` in a folder of its own; `$BT` is balance-tune. In it `{closed}` is a port that
nobody listens on, `{silent}` one that takes connections and says nothing, `{web}` a web server that refuses everything.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
LIMIT = 30  # seconds
STUDY = "name: tiny\ndatasets: [multiple_features]\nmethods: [joint]\ntraining: {epochs: 1}\n"
RUN = "$BT run s.yaml --root r"
NO_FLOCK = """import errno, fcntl, os
def flock(file, operation): raise OSError({error}, os.strerror({error}))
fcntl.flock = flock
"""

OK = ""
TABLE = {
    # RAY_ADDRESS
    "a cluster that is gone": (f"RAY_ADDRESS=127.0.0.1:{{closed}} {RUN}", 2, "a Ray must answer at RAY_ADDRESS"),
    "a dashboard's address": (f"RAY_ADDRESS=http://127.0.0.1:8265 {RUN}", 2, "the address of a dashboard"),
    "Ray Client's address": (f"RAY_ADDRESS=ray://127.0.0.1:10001 {RUN}", 2, "Ray Client, which runs no studies"),
    "no address at all": (f"RAY_ADDRESS=head {RUN}", 2, "must be HOST:PORT"),
    "a host nobody knows": (f"RAY_ADDRESS=nowhere.invalid:6379 {RUN}", 2, "the name nowhere.invalid is not known"),
    "a server that says nothing": (f"RAY_ADDRESS=127.0.0.1:{{silent}} {RUN}", 2, "is none"),
    "a web server": (f"RAY_ADDRESS=127.0.0.1:{{web}} {RUN}", 2, "is none"),
    "an IPv6 address": (f"RAY_ADDRESS=[::1]:{{closed}} {RUN}", 2, "a Ray must answer at RAY_ADDRESS"),
    "a port that is none": (f"RAY_ADDRESS=127.0.0.1:99999 {RUN}", 2, "must be HOST:PORT"),
    "a port below all": (f"RAY_ADDRESS=localhost:1 {RUN}", 2, "a Ray must answer at RAY_ADDRESS"),
    "a page's address": (f"RAY_ADDRESS=https://head.example {RUN}", 2, "the address of a dashboard"),
    "gone, and one looks on": ("RAY_ADDRESS=127.0.0.1:{closed} $BT status tiny --root there", 0, OK),
    # the job server
    "no dashboard": ("$BT submit s.yaml --address http://127.0.0.1:{closed}", 2, "a cluster's dashboard must answer"),
    "a dashboard that hangs": ("$BT submit s.yaml --address http://127.0.0.1:{silent}", 2, "no answer within 1 s"),
    "a dashboard without http": ("$BT submit s.yaml --address 127.0.0.1:8265", 2, "that of a cluster's dashboard"),
    "a password in it": ("$BT submit s.yaml --address http://me:secret@x:1", 2, "must hold no user or password"),
    # MLflow
    "MLflow is away": (
        "MLFLOW_TRACKING_URI=http://127.0.0.1:{closed} $BT ui tiny --root there", 2, "MLflow must answer",
    ),
    "MLflow hangs": (
        "MLFLOW_TRACKING_URI=http://127.0.0.1:{silent} $BT ui tiny --root there", 2, "no answer within 1 s",
    ),
    "MLflow in a folder": ("MLFLOW_TRACKING_URI=mlruns $BT ui tiny --root there", 2, "must begin with http"),
    "MLflow's database is away": (
        "MLFLOW_TRACKING_URI=postgresql://me:secret@127.0.0.1:{closed}/x $BT ui tiny --root there", 2, "must answer",
    ),
    # PostgreSQL
    "the trials' database is away": ("{postgres}:{closed}/x $BT status tiny --root database", 2, "must answer, but"),
    "the trials' database is not named": ("$BT status tiny --root database", 2, "BALANCE_TUNE_STORAGE is not set"),
    # object stores
    "no S3 server": ("$BT status x --root 's3://b/p?endpoint_override=127.0.0.1:{closed}'", 2, "object store"),
    "no S3 server, to run": (
        "$BT run s.yaml --root 's3://b/p?endpoint_override=127.0.0.1:{closed}&scheme=http'", 2, "object store",
    ),
    "no server for gs": ("STORAGE_EMULATOR_HOST=127.0.0.1:{closed} $BT status x --root gs://b/p", 2, "object store"),
    "keys in the root": ("$BT status x --root s3://KEY:SECRET@b/p", 2, "the root must not hold credentials"),
    "a store nobody knows": ("$BT status x --root ftp://b/p", 2, "a URI that pyarrow can open"),
    # file systems and paths
    "Lustre without flock": ("PYTHONPATH=lustre:$PYTHONPATH $BT status tiny --root there", 0, OK),
    "NFS without lockd": ("PYTHONPATH=nfs:$PYTHONPATH $BT status tiny --root there", 0, OK),
    "the root is a file": ("$BT run s.yaml --root s.yaml", 2, "the root must be a folder that can be written"),
    "a root that cannot be written": ("$BT run s.yaml --root /proc/r", 2, "the root must be a folder that can be"),
    "a root below a device": ("$BT status x --root /dev/null/r", 2, "a study must have been run"),
    "a root with a long name": ("$BT status x --root $(printf 'x%.0s' $(seq 300))", 2, "too long"),
    "the home of nobody": ("$BT status x --root '~nobody_of_that_name/r'", 2, "`~` must be followed by a user"),
    "a study file that is a folder": ("mkdir d.yaml; $BT run d.yaml --root r", 2, "d.yaml"),
    "a study file of bytes": ("head -c 999 /dev/urandom > b.yaml; $BT run b.yaml --root r", 2, "b.yaml"),
    "a study file that is a pipe": ("mkfifo f.yaml; $BT run f.yaml --root r", 2, "f.yaml"),
    "an endless study file": ("$BT run /dev/zero --root r", 2, "/dev/zero"),
    "an empty study file": (": > e.yaml; $BT run e.yaml --root r", 2, "e.yaml"),
    "a study file of 100 MB": (
        "head -c 100000000 /dev/zero | tr '\\0' x > x.yaml; $BT run x.yaml --root r", 2, "x.yaml",
    ),
    "a study file with tabs": ("printf 'name: t\\nmethods:\\n\\t- ogm\\n' > t.yaml; $BT run t.yaml", 2, "t.yaml"),
    "a study file that unfolds": (
        "printf 'a: &a [x, x]\\nb: &b [*a, *a]\\nc: [*b, *b]\\n' > a.yaml; $BT run a.yaml", 2, "a.yaml",
    ),
    "a recipe that is a pipe": (
        "mkfifo r.yaml; touch t.csv; $BT data prepare table --source t.csv --recipe r.yaml --out o", 2, "r.yaml",
    ),
    "a table that is a pipe": (
        "mkfifo t.csv; echo 'name: x\nlabel: y\nmodalities: {a: {column: a, kind: numbers}}' > r.yaml;"
        " $BT data prepare table --source t.csv --recipe r.yaml --out o", 2, "t.csv",
    ),
    "a TMPDIR that is a file": ("TMPDIR=$PWD/s.yaml $BT status tiny --root there", 0, OK),
    "a TMPDIR that cannot be written": ("TMPDIR=/proc $BT status tiny --root there", 0, OK),
    "no home": ("env -u HOME $BT status tiny --root there", 0, OK),
    "a home that cannot be written": ("HOME=/proc/home $BT methods", 0, OK),
    "a TMPDIR that is gone": ("TMPDIR=/nowhere $BT status tiny --root there", 0, OK),
    "a working directory that is gone": ("mkdir w; R=$PWD/there; cd w; rmdir ../w; $BT status tiny --root $R", 0, OK),
    "few open files": ("ulimit -n 24; $BT status tiny --root there", 0, OK),
    # terminals
    "a terminal of ASCII": ("PYTHONIOENCODING=ascii $BT methods ogm_ge", 0, OK),
    "a terminal of Latin-1": ("PYTHONIOENCODING=latin-1 $BT methods ogm_ge", 0, OK),
    "the C locale": ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $BT methods ogm_ge", 0, OK),
    "JSON in ASCII": ("PYTHONIOENCODING=ascii $BT status tiny --root there -f json | $PYTHON -m json.tool", 0, OK),
    "40 columns": ("COLUMNS=40 $BT methods", 0, OK),
    "10 columns": ("COLUMNS=10 $BT status tiny --root there", 0, OK),
    "standard input closed": ("$BT status tiny --root there <&-", 0, OK),
    "no colour": ("NO_COLOR=1 TERM=dumb $BT status tiny --root there", 0, OK),
    "no terminal at all": ("env -u TERM $BT status tiny --root there </dev/null | cat", 0, OK),
    "a full disk behind standard output": ("$BT methods > /dev/full", 2, "No space left on device"),
    "standard output closed": ("$BT status tiny --root there >&-", 0, OK),
    "standard error closed": ("$BT status nobody --root there 2>&-", 2, OK),
    "a reader that stops": ("$BT methods | head -1", 0, OK),
    # names that shadow
    "numpy.py beside the study": ("echo 'x = 1' > numpy.py; $PYTHON -m balance_tune plan s.yaml", 2, "hides `numpy`"),
    "queue.py beside the study": ("echo 'x = 1' > queue.py; $PYTHON -m balance_tune plan s.yaml", 2, "hides `queue`"),
    "argparse.py beside the study": ("touch argparse.py; $PYTHON -m balance_tune methods", 2, "hides `argparse`"),
    "random.py beside the study": ("touch random.py; $PYTHON -m balance_tune plan s.yaml", 2, "hides `random`"),
    "json.py beside the study": ("touch json.py; $PYTHON -m balance_tune plan s.yaml", 2, "hides `json`"),
    "types.py beside the study": ("touch types.py; $PYTHON -m balance_tune plan s.yaml", 0, OK),  # imported before
    "ray.py beside the study": ("touch ray.py; $PYTHON -m balance_tune run s.yaml --root r", 2, "hides `ray`"),
    "mlflow.py beside the study": ("touch mlflow.py; $PYTHON -m balance_tune run s.yaml --root r", 2, "hides `mlflow`"),
    "a folder called torch": ("mkdir torch; touch torch/__init__.py; $PYTHON -m balance_tune plan s.yaml", 2, "torch"),
    "a folder called ray, no package": ("mkdir ray; $PYTHON -m balance_tune methods ogm_ge", 0, OK),
    "yaml.py on PYTHONPATH": ("mkdir m; touch m/yaml.py; PYTHONPATH=m:$PYTHONPATH $BT plan s.yaml", 2, "hides `yaml`"),
    # times
    "a time that is none": ("BALANCE_TUNE_CONNECT_S=soon $BT methods", 2, "must be a number of seconds"),
    "a negative time": ("BALANCE_TUNE_OUTAGE_S=-1 $BT methods", 2, "must be a number of seconds"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, str]]:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *words: object) -> None:
            """Write nothing."""

    with socket.socket() as free, socket.socket() as listener:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield {
                "closed": str(free.getsockname()[1]),
                "silent": str(listener.getsockname()[1]),
                "web": str(server.server_address[1]),
                "postgres": "BALANCE_TUNE_STORAGE=postgresql://me:secret@127.0.0.1",
            }
            server.shutdown()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study file, a root with a study that was begun, and one whose trials are in a database."""
    from balance_tune.studies.loading import load_config
    from balance_tune.studies.storage.study_folder import StudyFolder
    from balance_tune.studies.storage.trials import open_storage

    folder = tmp_path_factory.mktemp("made")
    (folder / "s.yaml").write_text(STUDY)
    for root in ("there", "database"):
        study = folder / root / "tiny"
        study.mkdir(parents=True)
        (study / "study.yaml").write_text(load_config(folder / "s.yaml").as_yaml())
        (study / "lock").touch()
    open_storage(StudyFolder(folder / "there" / "tiny"))
    names = '{"database": "postgresql://me:***@127.0.0.1:PORT/x", "names": "tiny-1"}'
    (folder / "database" / "tiny" / "optuna.database").write_text(names)
    for name, error in (("lustre", 38), ("nfs", 37)):
        (folder / name).mkdir()
        (folder / name / "sitecustomize.py").write_text(NO_FLOCK.format(error=error))
    return folder


def test_there_are_at_least_forty() -> None:
    assert len(TABLE) >= 40


@pytest.mark.parametrize("situation", TABLE)
def test_it_ends_within_seconds_in_success_or_one_line(
    situation: str, ports: dict[str, str], made: Path, tmp_path: Path
) -> None:
    line, status, message = TABLE[situation]
    for name in made.iterdir():
        if name.is_dir():
            shutil.copytree(name, tmp_path / name.name)
        else:
            shutil.copy(name, tmp_path)
    marker = tmp_path / "database" / "tiny" / "optuna.database"
    marker.write_text(marker.read_text().replace("PORT", ports["closed"]))
    kept = {k: v for k, v in os.environ.items() if not re.match(r"RAY_|MLFLOW_|BALANCE_TUNE_|.*_proxy$|.*_PROXY$", k)}
    environment = {
        **kept,
        "BT": f"{sys.executable} -P -m balance_tune",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(HERE),
        "BALANCE_TUNE_CONNECT_S": "1",
    }
    for name, port in ports.items():
        line = line.replace(f"{{{name}}}", port)
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace",
        timeout=LIMIT, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    told = done.stderr.strip()
    assert "Traceback" not in told + done.stdout, told
    assert done.returncode == status, told
    assert message in told
    assert status == 0 or len(told.splitlines()) <= 1, told
    assert "secret" not in told.lower() or situation == "keys in the root"
