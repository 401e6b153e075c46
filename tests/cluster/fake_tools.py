"""Stands in for kubectl, helm, docker, ray, sbatch, pip and balance-tune, so that walk-throughs run without a cloud.

Each command checks what the real one would refuse: files that are missing, manifests with unknown fields or that
`restricted` refuses, secrets nobody made, options balance-tune does not know. What was called, and what was made, is
kept in the JSON file $FAKE_STATE. Called as `python fake_tools.py NAME ARGUMENTS`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.manifests import violations

STATE = Path(os.environ["FAKE_STATE"])


def check(right: bool, words: str) -> None:
    if not right:
        sys.exit(words)


def state() -> dict[str, Any]:
    return json.loads(STATE.read_text()) if STATE.exists() else {"calls": [], "secrets": {}, "objects": []}


def options(words: list[str], name: str) -> list[str]:
    return [b for a, b in pairwise(words) if a == name] + [
        w.partition("=")[2] for w in words if w.startswith(name + "=")
    ]


# kubectl -------------------------------------------------------------------------------------------------------------
def documents(words: list[str]) -> list[dict[str, Any]]:
    texts = []
    for name in options(words, "-f"):
        path = Path(name)
        check(name == "-" or path.exists(), f"the path {name} does not exist")
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        texts += [sys.stdin.read()] if name == "-" else [file.read_text() for file in files]
    found = [d for text in texts for d in yaml.safe_load_all(text)]
    check(bool(found), "no objects passed to apply")
    return found


def secret_keys(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        ref = value.get("secretKeyRef")
        if ref and not ref.get("optional"):
            yield ref["name"], ref["key"]
        for entry in value.values():
            yield from secret_keys(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from secret_keys(entry)


def kubectl(words: list[str], known: dict[str, Any]) -> None:
    verb = words[0]
    if verb == "apply":
        for d in documents(words):
            check(not violations(d), "; ".join(violations(d)))
            for name, key in secret_keys(d):
                check(key in known["secrets"].get(name, {}), f"secret {name} has no key {key}")
            if "--dry-run=server" not in words:
                known["objects"].append(f"{d['kind'].lower()}/{d['metadata']['name']}")
    elif verb == "create":
        check(words[1:3] == ["secret", "generic"], f"unknown {words}")
        check(words[3] not in known["secrets"], f"secret {words[3]} exists")
        pairs = [w.partition("=")[2].partition("=") for w in words if w.startswith("--from-literal=")]
        check(all(key and value for key, _, value in pairs), "an empty literal")
        known["secrets"][words[3]] = {key: value for key, _, value in pairs}
    elif verb == "get":
        check(words[1] == "secret", f"unknown {words}")
        key = options(words, "-o")[0].removeprefix("jsonpath={.data.").removesuffix("}")
        print(base64.b64encode(known["secrets"][words[2]][key].encode()).decode())
    elif verb in ("rollout", "wait"):
        target = next(w for w in words if "/" in w)
        check(target in known["objects"], f"{target} not found")
    elif verb == "port-forward":
        cluster = words[1].removeprefix("service/").removesuffix("-head-svc")
        check(f"raycluster/{cluster}" in known["objects"], f"{words[1]} not found")
    elif verb == "kustomize":
        folder = Path(words[-1])
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        made = [d for name in kustomization["resources"] for d in yaml.safe_load_all((folder / name).read_text())]
        for patch in kustomization["patches"]:
            for operation in yaml.safe_load(patch["patch"]):
                (target,) = [d for d in made if d["kind"] == patch["target"]["kind"]]
                *parents, last = operation["path"].strip("/").split("/")
                for name in parents:
                    target = target[name]
                target[last] = operation["value"]
        print(yaml.safe_dump_all(made))
    else:
        check(verb in ("delete", "label"), f"unknown {words}")


# the others --------------------------------------------------------------------------------------------------------
def helm(words: list[str], known: dict[str, Any]) -> None:
    check(words[:2] in (["repo", "add"], ["install", "kuberay-operator"]), f"unknown {words}")


def docker(words: list[str], known: dict[str, Any]) -> None:
    if words[0] == "build":
        check(Path(options(words, "-f")[0]).is_file() and Path(words[-1]).is_dir(), f"cannot build {words}")
        known["images"] = options(words, "-t")
    else:
        check(words[0] == "push" and words[1] in known.get("images", []), f"no image {words}")


def ray(words: list[str], known: dict[str, Any]) -> None:
    check(words[0] in ("up", "down", "dashboard", "start", "job", "get-auth-token"), f"unknown {words}")
    if words[0] in ("up", "down", "dashboard"):
        import jsonschema
        import ray as real

        schema = json.loads((Path(real.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
        jsonschema.validate(yaml.safe_load(Path(words[-1]).read_text()), schema)
    if words[:2] == ["job", "submit"]:
        after = words[words.index("--") + 1 :]
        check(after[0] == "balance-tune", f"unknown {words}")
        balance_tune(after[1:], known)
    for file in options(words, "--autoscaling-config"):
        check("HEAD_IP" not in Path(file).read_text(), "HEAD_IP was left")


def balance_tune(words: list[str], known: dict[str, Any]) -> None:
    from balance_tune.cli import parsed

    args = parsed(words)
    study = getattr(args, "study_file", None)
    check(study is None or study.is_file(), f"no study file {study}")


def sbatch(words: list[str], known: dict[str, Any]) -> None:
    subprocess.run(["bash", "-n", words[0]], check=True)
    check(Path(words[1]).is_file(), f"no study file {words[1]}")
    check("BALANCE_TUNE_ROOT" in os.environ, "no root")


def pip(words: list[str], known: dict[str, Any]) -> None:
    check(Path(options(words, "-c")[0]).is_file(), f"no constraints {words}")


def main(name: str, words: list[str]) -> None:
    tools = {"kubectl": kubectl, "helm": helm, "docker": docker, "ray": ray, "sbatch": sbatch, "pip": pip}
    known = state()
    {**tools, "balance-tune": balance_tune}[name](words, known)
    known["calls"].append([name, *words])
    STATE.write_text(json.dumps(known))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
