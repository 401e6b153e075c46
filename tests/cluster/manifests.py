"""What a manifest may and must hold: the fields we know of each kind, and the Pod Security Standard `restricted`.

The fields are those of ray.io/v1 and of Kubernetes that we use; a typing error is in none. Those of ray.io/v1 were
compared with KubeRay's field reference of 1.6.2 and its Go types of 1.7: names, types, allowed values, required fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]
"""Field -> what it holds: the fields below it, a list of such, a type, a tuple of the only values; None: anything.

`REQUIRED` names the fields of a kind that must be there.
"""
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGT]i?)?")
TEXTS = {"*": str}  # any names, each with a text
QUANTITIES = {"*": QUANTITY}

SECURITY_OF_POD: Fields = {
    "runAsNonRoot": bool,
    **dict.fromkeys(["runAsUser", "runAsGroup", "fsGroup"], int),
    "seccompProfile": {"type": ("RuntimeDefault", "Localhost", "Unconfined")},
}
SECURITY: Fields = {
    "allowPrivilegeEscalation": bool,
    "readOnlyRootFilesystem": bool,
    "capabilities": {"drop": [str]},
}
SECRET: Fields = {"secretKeyRef": {"name": str, "key": str, "optional": bool}}
RESOURCES: Fields = {"requests": QUANTITIES, "limits": QUANTITIES}
PROBE: Fields = {
    "httpGet": {"path": str, "port": None, "httpHeaders": [{"name": str, "value": str}]},
    "exec": {"command": [str]},
    "tcpSocket": {"port": None},
    "periodSeconds": int,
}
CONTAINER: Fields = {
    **dict.fromkeys(["name", "image"], str),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    **{key: [str] for key in ["command", "args"]},
    "env": [{"name": str, "value": str, "valueFrom": SECRET}],
    "ports": [{"name": str, "containerPort": int}],
    "resources": RESOURCES,
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
    "securityContext": SECURITY,
    "readinessProbe": PROBE,
}
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
TERM: Fields = {"matchExpressions": [{"key": str, "operator": OPERATORS, "values": [str]}]}
POD: Fields = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "terminationGracePeriodSeconds": int,
    "serviceAccountName": str,
    "nodeSelector": TEXTS,
    "containers": [CONTAINER],
    "volumes": [
        {
            "name": str,
            "persistentVolumeClaim": {"claimName": str},
            "configMap": {"name": str},
            "emptyDir": {"medium": ("", "Memory"), "sizeLimit": QUANTITY},
        }
    ],
    "securityContext": SECURITY_OF_POD,
    "tolerations": [
        {
            "key": str,
            "operator": ("Exists", "Equal"),
            "value": str,
            "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
        }
    ],
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": int, "preference": TERM}],
        }
    },
}
TEMPLATE: Fields = {"metadata": {"labels": TEXTS}, "spec": POD}
GROUP: Fields = {
    "groupName": str,
    **dict.fromkeys(["replicas", "minReplicas", "maxReplicas"], int),
    "rayStartParams": TEXTS,
    "template": TEMPLATE,
}
RAY_CLUSTER: Fields = {
    "rayVersion": str,
    "authOptions": {"mode": ("disabled", "token"), "secretName": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {
        "version": ("v1", "v2"),
        "upscalingMode": ("Default", "Aggressive", "Conservative"),
        "idleTimeoutSeconds": int,
        "resources": RESOURCES,
        "securityContext": SECURITY,
    },
    "gcsFaultToleranceOptions": {"redisAddress": str, "redisPassword": {"valueFrom": SECRET}},
    "headGroupSpec": {"rayStartParams": TEXTS, "template": TEMPLATE},
    "workerGroupSpecs": [GROUP],
}
RAY_JOB: Fields = {
    **dict.fromkeys(["entrypoint", "entrypointResources", "runtimeEnvYAML"], str),
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    **dict.fromkeys(["backoffLimit", "ttlSecondsAfterFinished"], int),
    "shutdownAfterJobFinishes": bool,
    "submitterPodTemplate": TEMPLATE,
    "rayClusterSpec": RAY_CLUSTER,
}
MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
CLAIM: Fields = {"accessModes": [MODES], "storageClassName": str, "resources": RESOURCES}
SELECTOR: Fields = {"matchLabels": TEXTS, "matchExpressions": [{"key": str, "operator": OPERATORS}]}
PEERS: Fields = {"from": [{"podSelector": SELECTOR}], "ports": [{"protocol": ("TCP", "UDP", "SCTP"), "port": int}]}
KINDS: dict[tuple[str, str], Fields] = {
    ("ray.io/v1", "RayCluster"): {"spec": RAY_CLUSTER},
    ("ray.io/v1", "RayJob"): {"spec": RAY_JOB},
    ("v1", "ConfigMap"): {"data": TEXTS},
    ("v1", "ServiceAccount"): {},
    ("v1", "Service"): {"spec": {"clusterIP": str, "selector": TEXTS, "ports": [{"name": str, "port": int}]}},
    ("v1", "PersistentVolumeClaim"): {"spec": CLAIM},
    ("apps/v1", "Deployment"): {
        "spec": {
            "replicas": int,
            "strategy": {"type": ("Recreate", "RollingUpdate")},
            "selector": SELECTOR,
            "template": TEMPLATE,
        }
    },
    ("apps/v1", "StatefulSet"): {
        "spec": {
            "serviceName": str,
            "replicas": int,
            "selector": SELECTOR,
            "template": TEMPLATE,
            "volumeClaimTemplates": [{"metadata": {"name": str}, "spec": CLAIM}],
        }
    },
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "spec": {"podSelector": SELECTOR, "policyTypes": [("Ingress", "Egress")], "ingress": [PEERS]}
    },
}
METADATA: Fields = {"name": str, "annotations": TEXTS, "labels": TEXTS}
REQUIRED = {
    id(METADATA): ["name"],
    id(RAY_CLUSTER): ["headGroupSpec"],
    id(RAY_CLUSTER["headGroupSpec"]): ["template"],
    id(GROUP): ["groupName", "maxReplicas", "minReplicas", "template"],
    id(TEMPLATE): ["spec"],
    id(POD): ["containers"],
    id(CONTAINER): ["name", "image"],
    id(RAY_CLUSTER["gcsFaultToleranceOptions"]): ["redisAddress"],
    id(SECRET["secretKeyRef"]): ["name", "key"],
    id(TERM["matchExpressions"][0]): ["key", "operator"],
}
"""What must be there, by the identity of the fields above."""
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
    """Yield what a value is not that it must be, and the fields below it that are unknown or missing."""
    if known is None:
        return
    if isinstance(known, list):
        if not isinstance(value, list):
            yield f"{where} must be a list"
            return
        for index, entry in enumerate(value):
            yield from _unknown(entry, known[0], f"{where}[{index}]")
    elif isinstance(known, tuple):
        if value not in known:
            yield f"{where} must be one of {', '.join(known)}"
    elif isinstance(known, re.Pattern):
        if type(value) is not int and not (isinstance(value, str) and known.fullmatch(value)):
            yield f"{where} must be a quantity"
    elif isinstance(known, type):
        if type(value) is not known:  # a bool is no int
            yield f"{where} must be {known.__name__}"
    elif not isinstance(value, dict):
        yield f"{where} must be a mapping"
    else:
        for name in REQUIRED.get(id(known), ()):
            if name not in value:
                yield f"{where}.{name} must be there"
        for name, entry in value.items():
            if name in known or "*" in known:
                yield from _unknown(entry, known.get(name, known.get("*")), f"{where}.{name}")
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
