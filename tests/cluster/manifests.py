"""What a manifest may and must hold: the schemas of Kubernetes and KubeRay, and the Pod Security Standard `restricted`.

Kubernetes' own schemas (in their strict form, where an unknown field is an error) come with kubernetes-validate, those
of `ray.io/v1` are in ray_io_v1.py. A manifest must fulfil those of the oldest and of the newest release named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from tests.cluster.ray_io_v1 import KUBERNETES, SPECS, STRING, Schema

RELEASES = ["1.28", "1.37"]
"""Of Kubernetes: one that clusters still run, and the newest that the package knows."""
CORE_KINDS = {
    ("apps/v1", "Deployment"): "io.k8s.api.apps.v1.Deployment",
    ("apps/v1", "StatefulSet"): "io.k8s.api.apps.v1.StatefulSet",
    ("networking.k8s.io/v1", "NetworkPolicy"): "io.k8s.api.networking.v1.NetworkPolicy",
    ("v1", "ConfigMap"): "io.k8s.api.core.v1.ConfigMap",
    ("v1", "PersistentVolumeClaim"): "io.k8s.api.core.v1.PersistentVolumeClaim",
    ("v1", "Service"): "io.k8s.api.core.v1.Service",
    ("v1", "ServiceAccount"): "io.k8s.api.core.v1.ServiceAccount",
}
QUANTITY: Schema = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$"},
    ]
}
OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"]
ALLOWED = {
    "core.v1.Container.imagePullPolicy": ["Always", "IfNotPresent", "Never"],
    "core.v1.ContainerPort.protocol": ["TCP", "UDP", "SCTP"],
    "core.v1.EmptyDirVolumeSource.medium": ["", "Memory", "HugePages", "HugePages-2Mi", "HugePages-1Gi"],
    "core.v1.NodeSelectorRequirement.operator": [*OPERATORS, "Gt", "Lt"],
    "core.v1.PersistentVolumeClaimSpec.accessModes": [
        "ReadWriteOnce",
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOncePod",
    ],
    "core.v1.PodSpec.restartPolicy": ["Always", "OnFailure", "Never"],
    "core.v1.SeccompProfile.type": ["RuntimeDefault", "Localhost", "Unconfined"],
    "core.v1.ServicePort.protocol": ["TCP", "UDP", "SCTP"],
    "core.v1.ServiceSpec.type": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
    "core.v1.Toleration.effect": ["", "NoSchedule", "PreferNoSchedule", "NoExecute"],
    "core.v1.Toleration.operator": ["", "Exists", "Equal"],
    "apps.v1.DeploymentStrategy.type": ["Recreate", "RollingUpdate"],
    "networking.v1.NetworkPolicyPort.protocol": ["TCP", "UDP", "SCTP"],
    "networking.v1.NetworkPolicySpec.policyTypes": ["Ingress", "Egress"],
    "LabelSelectorRequirement.operator": OPERATORS,
}
"""Field of Kubernetes -> the values, or entries, that its server allows; the schemas say these in words only."""
REQUIRED = {"core.v1.PodTemplateSpec": "spec", "core.v1.Container": "image"}
"""Type of Kubernetes -> a field that its server wants beyond those of the schema."""
SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|STORE_URI|STORAGE$|CREDENTIAL")


def _full(name: str) -> str:
    """Return the name of a type as Kubernetes' definitions have it."""
    group = "io.k8s.api." if "." in name else "io.k8s.apimachinery.pkg.apis.meta.v1."
    return group + name


@cache
def _registry(release: str) -> Any:
    """Return Kubernetes' definitions of one release, with what the server checks beyond them."""
    definitions = schema_contents(f"kubernetes-json-schema/v{release}.0-local-strict/_definitions.json", release)
    types = definitions["$defs"]
    types["io.k8s.apimachinery.pkg.api.resource.Quantity"] = QUANTITY
    for field, values in ALLOWED.items():
        name, _, key = field.rpartition(".")
        schema = types[_full(name)]["properties"][key]
        schema.get("items", schema)["enum"] = values
    for name, key in REQUIRED.items():
        types[_full(name)]["required"] = [*types[_full(name)].get("required", []), key]
    types[_full("core.v1.PodSpec")]["properties"]["containers"]["minItems"] = 1
    return Resource.from_contents(definitions) @ Registry()


def schema_of(kind: tuple[str, str]) -> Schema | None:
    """Return the schema of a document's API version and kind; None where nobody serves it."""
    if kind in CORE_KINDS:
        return {"$ref": KUBERNETES + CORE_KINDS[kind]}
    if kind[0] != "ray.io/v1" or kind[1] not in SPECS:
        return None
    metadata = {"$ref": f"{KUBERNETES}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    fields = {"apiVersion": STRING, "kind": STRING, "metadata": metadata, "spec": SPECS[kind[1]]}
    return {"type": "object", "properties": fields, "required": ["metadata", "spec"], "additionalProperties": False}


def violations(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a manifest: what its schema refuses, pods that `restricted` refuses, plain secrets."""
    kind = (document.get("apiVersion", ""), document.get("kind", ""))
    schema = schema_of(kind)
    if schema is None:
        return [f"{kind} is not known"]
    texts = [text for release in RELEASES for text in _refused_by_schema(document, schema, release)]
    if texts:  # what follows relies on the schema
        return list(dict.fromkeys(texts))
    if not (document.get("metadata") or {}).get("name"):
        texts.append("metadata has no name")
    return [*texts, *(text for pod in pods_of(document) for text in _refused(pod))]


def _refused_by_schema(document: dict[str, Any], schema: Schema, release: str) -> Iterator[str]:
    for error in Draft202012Validator(schema, registry=_registry(release)).iter_errors(document):
        yield f"{'.'.join([str(document['kind']), *map(str, error.absolute_path)])}: {error.message}"


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
