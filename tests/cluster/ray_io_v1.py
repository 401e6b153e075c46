"""KubeRay's custom resources RayCluster and RayJob of `ray.io/v1` as JSON Schema: the fields of release 1.6.2.

A pod template is a reference to Kubernetes' own schema; KubeRay's files repeat it in full at each place, which makes
them a million characters long. Names, types and allowed values are those of KubeRay's field reference of 1.6.2,
`required` and the few fields of a template's metadata those of its CRD files. Release 1.7 has all fields used here.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

KUBERNETES = "https://kubernetes.io/api/_definitions.json#/$defs/"
STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
TEXTS: Schema = {"type": "object", "additionalProperties": STRING}


def mapping(required: list[str] | None = None, **properties: Schema) -> Schema:
    """Return the schema of a mapping that holds these fields alone."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def one_of(*values: str) -> Schema:
    """Return the schema of a text that is one of these."""
    return {"type": "string", "enum": list(values)}


def list_of(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def core(name: str) -> Schema:
    """Return a reference to a type of Kubernetes' core/v1."""
    return {"$ref": f"{KUBERNETES}io.k8s.api.core.v1.{name}"}


METADATA = mapping(annotations=TEXTS, finalizers=list_of(STRING), labels=TEXTS, name=STRING, namespace=STRING)
POD_TEMPLATE = mapping(required=["spec"], metadata=METADATA, spec=core("PodSpec"))
MANAGER = one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")
REDIS_CREDENTIAL = mapping(value=STRING, valueFrom=core("EnvVarSource"))

HEAD_GROUP = mapping(
    required=["template"],
    enableIngress=BOOLEAN,
    headService=core("Service"),
    labels=TEXTS,
    rayStartParams=TEXTS,
    resources=TEXTS,
    serviceType=STRING,
    template=POD_TEMPLATE,
)
WORKER_GROUP = mapping(
    required=["groupName", "maxReplicas", "minReplicas", "template"],
    groupName=STRING,
    idleTimeoutSeconds=INTEGER,
    labels=TEXTS,
    maxReplicas=INTEGER,
    minReplicas=INTEGER,
    numOfHosts=INTEGER,
    rayStartParams=TEXTS,
    replicas=INTEGER,
    resources=TEXTS,
    scaleStrategy=mapping(workersToDelete=list_of(STRING)),
    suspend=BOOLEAN,
    template=POD_TEMPLATE,
)
RAY_CLUSTER_SPEC = mapping(
    required=["headGroupSpec"],
    authOptions=mapping(enableK8sTokenAuth=BOOLEAN, mode=one_of("disabled", "token"), secretName=STRING),
    autoscalerOptions=mapping(
        env=list_of(core("EnvVar")),
        envFrom=list_of(core("EnvFromSource")),
        idleTimeoutSeconds=INTEGER,
        image=STRING,
        imagePullPolicy=STRING,
        resources=core("ResourceRequirements"),
        securityContext=core("SecurityContext"),
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        version=one_of("v1", "v2"),
        volumeMounts=list_of(core("VolumeMount")),
    ),
    enableInTreeAutoscaling=BOOLEAN,
    gcsFaultToleranceOptions=mapping(
        required=["redisAddress"],
        externalStorageNamespace=STRING,
        redisAddress=STRING,
        redisPassword=REDIS_CREDENTIAL,
        redisUsername=REDIS_CREDENTIAL,
    ),
    headGroupSpec=HEAD_GROUP,
    headServiceAnnotations=TEXTS,
    managedBy=MANAGER,
    rayVersion=STRING,
    suspend=BOOLEAN,
    upgradeStrategy=mapping(type=one_of("Recreate", "None")),
    workerGroupSpecs=list_of(WORKER_GROUP),
)
DELETION_POLICY = one_of("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone")
DELETION_RULE = mapping(
    required=["condition", "policy"],
    condition=mapping(jobDeploymentStatus=STRING, jobStatus=STRING, ttlSeconds={**INTEGER, "minimum": 0}),
    policy=DELETION_POLICY,
)
RAY_JOB_SPEC = mapping(
    activeDeadlineSeconds=INTEGER,
    backoffLimit=INTEGER,
    clusterSelector=TEXTS,
    deletionStrategy=mapping(
        deletionRules=list_of(DELETION_RULE) | {"minItems": 1},
        onFailure=mapping(policy=DELETION_POLICY),
        onSuccess=mapping(policy=DELETION_POLICY),
    ),
    entrypoint=STRING,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    entrypointResources=STRING,
    jobId=STRING,
    managedBy=MANAGER,
    metadata=TEXTS,
    preRunningDeadlineSeconds={**INTEGER, "minimum": 1},
    rayClusterSpec=RAY_CLUSTER_SPEC,
    runtimeEnvYAML=STRING,
    shutdownAfterJobFinishes=BOOLEAN,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    submitterConfig=mapping(backoffLimit=INTEGER),
    submitterPodTemplate=POD_TEMPLATE,
    suspend=BOOLEAN,
    ttlSecondsAfterFinished=INTEGER,
)
SPECS = {"RayCluster": RAY_CLUSTER_SPEC, "RayJob": RAY_JOB_SPEC}
"""Kind -> the schema of its `spec`."""
