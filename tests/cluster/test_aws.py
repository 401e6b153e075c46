"""What `ray up cluster/aws.yaml` would make on AWS: Ray's own provider against an AWS that lives in this process."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from moto import mock_aws

CLUSTER = Path(__file__).parents[2] / "cluster"
REGION = "us-west-2"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    import boto3
    from ray.autoscaler._private.aws import utils

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("HOME", str(tmp_path))
    with mock_aws():
        utils.resource_cache.cache_clear()
        utils.client_cache.cache_clear()
        yield boto3
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()


def filled(boto3: Any) -> dict[str, Any]:
    """Return the launcher file with an image, a security group and profiles that exist."""
    ec2, iam = boto3.client("ec2", REGION), boto3.client("iam", REGION)
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="balance-tune", Description="x", VpcId=network)["GroupId"]
    for name in ("balance-tune-head", "balance-tune-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    text = (CLUSTER / "aws.yaml").read_text()
    config: dict[str, Any] = yaml.safe_load(text.replace("AMI_ID", image).replace("SECURITY_GROUP_ID", group))
    return config


def test_ray_up_makes_a_head_on_demand_and_workers_on_spot(aws: Any) -> None:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(filled(aws))
    validate_config(config)
    config = bootstrap_aws(copy.deepcopy(config))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for kind in ("head", "gpu"):
        provider.create_node(config["available_node_types"][kind]["node_config"], {"ray-node-type": kind}, 1)
    (head,), (worker,) = (
        aws.client("ec2", REGION).describe_instances(Filters=[{"Name": "tag:ray-node-type", "Values": [kind]}])[
            "Reservations"
        ][0]["Instances"]
        for kind in ("head", "gpu")
    )
    assert (head["InstanceType"], worker["InstanceType"]) == ("m7i.xlarge", "g6.2xlarge")
    assert "InstanceLifecycle" not in head
    assert worker["InstanceLifecycle"] == "spot"
    profiles = [i["IamInstanceProfile"]["Arn"].rpartition("/")[2] for i in (head, worker)]
    assert profiles == ["balance-tune-head", "balance-tune-worker"]
    assert head["SecurityGroups"] == worker["SecurityGroups"]
    assert head["MetadataOptions"]["HttpTokens"] == worker["MetadataOptions"]["HttpTokens"] == "required"
