"""What a manifest may and must hold: the fields we know of each kind, and the Pod Security Standard `restricted`.

The fields are those of ray.io/v1 (KubeRay 1.6 and 1.7) and of Kubernetes that we use; a typing error is in none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]
"""Field -> the fields below it; None: anything (a scalar, or what is checked elsewhere); a list: a list of such."""

SECURITY_OF_POD: Fields = dict.fromkeys(["runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup"]) | {
    "seccompProfile": {"type": None}
}
SECURITY: Fields = {
    "allowPrivilegeEscalation": None,
    "readOnlyRootFilesystem": None,
    "capabilities": {"drop": None},
}
SECRET: Fields = {"secretKeyRef": dict.fromkeys(["name", "key", "optional"])}
RESOURCES: Fields = {"requests": None, "limits": None}
PROBE: Fields = {
    "httpGet": {"path": None, "port": None, "httpHeaders": [{"name": None, "value": None}]},
    "exec": {"command": None},
    "tcpSocket": {"port": None},
    "periodSeconds": None,
}
CONTAINER: Fields = {
    **dict.fromkeys(["name", "image", "imagePullPolicy", "command", "args"]),
    "env": [{"name": None, "value": None, "valueFrom": SECRET}],
    "ports": [{"name": None, "containerPort": None}],
    "resources": RESOURCES,
    "volumeMounts": [dict.fromkeys(["name", "mountPath", "readOnly"])],
    "securityContext": SECURITY,
    "readinessProbe": PROBE,
}
TERM: Fields = {"matchExpressions": [dict.fromkeys(["key", "operator", "values"])]}
POD: Fields = {
    **dict.fromkeys(["restartPolicy", "terminationGracePeriodSeconds", "serviceAccountName", "nodeSelector"]),
    "containers": [CONTAINER],
    "volumes": [
        {
            "name": None,
            "persistentVolumeClaim": {"claimName": None},
            "configMap": {"name": None},
            "emptyDir": {"medium": None, "sizeLimit": None},
        }
    ],
    "securityContext": SECURITY_OF_POD,
    "tolerations": [dict.fromkeys(["key", "operator", "value", "effect"])],
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": None, "preference": TERM}],
        }
    },
}
TEMPLATE: Fields = {"metadata": {"labels": None}, "spec": POD}
GROUP: Fields = {
    **dict.fromkeys(["groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams"]),
    "template": TEMPLATE,
}
RAY_CLUSTER: Fields = {
    "rayVersion": None,
    "authOptions": {"mode": None, "secretName": None},
    "enableInTreeAutoscaling": None,
    "autoscalerOptions": {
        **dict.fromkeys(["version", "upscalingMode", "idleTimeoutSeconds"]),
        "resources": RESOURCES,
        "securityContext": SECURITY,
    },
    "gcsFaultToleranceOptions": {"redisAddress": None, "redisPassword": {"valueFrom": SECRET}},
    "headGroupSpec": {"rayStartParams": None, "template": TEMPLATE},
    "workerGroupSpecs": [GROUP],
}
RAY_JOB: Fields = {
    **dict.fromkeys(
        ["entrypoint", "submissionMode", "backoffLimit", "entrypointResources", "shutdownAfterJobFinishes"]
    ),
    **dict.fromkeys(["ttlSecondsAfterFinished", "runtimeEnvYAML"]),
    "submitterPodTemplate": TEMPLATE,
    "rayClusterSpec": RAY_CLUSTER,
}
CLAIM: Fields = {"accessModes": None, "storageClassName": None, "resources": RESOURCES}
SELECTOR: Fields = {"matchLabels": None, "matchExpressions": [dict.fromkeys(["key", "operator"])]}
PEERS: Fields = {"from": [{"podSelector": SELECTOR}], "ports": [{"protocol": None, "port": None}]}
KINDS: dict[tuple[str, str], Fields] = {
    ("ray.io/v1", "RayCluster"): {"spec": RAY_CLUSTER},
    ("ray.io/v1", "RayJob"): {"spec": RAY_JOB},
    ("v1", "ConfigMap"): {"data": None},
    ("v1", "ServiceAccount"): {},
    ("v1", "Service"): {"spec": {"clusterIP": None, "selector": None, "ports": [{"name": None, "port": None}]}},
    ("v1", "PersistentVolumeClaim"): {"spec": CLAIM},
    ("apps/v1", "Deployment"): {
        "spec": {"replicas": None, "strategy": {"type": None}, "selector": SELECTOR, "template": TEMPLATE}
    },
    ("apps/v1", "StatefulSet"): {
        "spec": {
            **dict.fromkeys(["serviceName", "replicas"]),
            "selector": SELECTOR,
            "template": TEMPLATE,
            "volumeClaimTemplates": [{"metadata": {"name": None}, "spec": CLAIM}],
        }
    },
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "spec": {"podSelector": SELECTOR, "policyTypes": None, "ingress": [PEERS], "egress": None}
    },
}
METADATA: Fields = {"name": None, "annotations": None, "labels": None}
SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|STORE_URI|STORAGE$|CREDENTIAL")


def violations(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a manifest: unknown fields, pods that `restricted` refuses, secrets in plain words."""
    kind = (document.get("apiVersion", ""), document.get("kind", ""))
    if kind not in KINDS:
        return [f"{kind} is not known"]
    known: Fields = {"apiVersion": None, "kind": None, "metadata": METADATA, **KINDS[kind]}
    return [*_unknown(document, known, str(kind[1])), *(text for pod in pods_of(document) for text in _refused(pod))]


def pods_of(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every pod's specification in a manifest: whatever has containers."""
    if isinstance(document, dict):
        if "containers" in document:
            yield document
        for value in document.values():
            yield from pods_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from pods_of(value)


def _unknown(value: Any, known: Any, where: str) -> Iterator[str]:
    if known is None or value is None:
        return
    if isinstance(known, list):
        if not isinstance(value, list):
            yield f"{where} must be a list"
            return
        for index, entry in enumerate(value):
            yield from _unknown(entry, known[0], f"{where}[{index}]")
    elif not isinstance(value, dict):
        yield f"{where} must be a mapping"
    else:
        for name, entry in value.items():
            if name in known:
                yield from _unknown(entry, known[name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is not known"


def _refused(pod: dict[str, Any]) -> Iterator[str]:
    """Yield what the Pod Security Standard `restricted` refuses, and beyond it a writable root and plain secrets."""
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "a pod may run as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "a pod has no seccomp profile"
    if pod.get("hostNetwork") or pod.get("hostPID") or any("hostPath" in v for v in pod.get("volumes", [])):
        yield "a pod uses its host"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{container['name']} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{container['name']} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']} may write its root"
        for entry in container.get("env", []):
            if SECRET_NAME.search(entry["name"]) and "value" in entry:
                yield f"{container['name']} has {entry['name']} in plain words"
