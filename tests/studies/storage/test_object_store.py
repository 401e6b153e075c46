"""The objects below a prefix, on a real S3 endpoint."""

from __future__ import annotations

import boto3
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage import object_store
from balance_tune.studies.storage.object_store import ObjectStore, StoreUnavailable, join_uri, refuse_credentials
from tests.studies.bucket import SECRET, Bucket


def test_objects_are_written_listed_read_and_deleted(bucket: Bucket) -> None:
    store = ObjectStore(bucket.uri)
    store.write("s/big.bin", b"x" * 6_000_000)
    store.write("s/a/study.yaml", b"name: s\n")
    assert store.read("s/big.bin") == b"x" * 6_000_000
    assert set(store.objects("s")) == {"big.bin", "a/study.yaml"}
    assert store.folders() == ["s"]
    assert store.existing(["s/a/study.yaml", "s/a", "s/none"]) == ["s/a/study.yaml"]
    store.delete("s/big.bin")
    store.delete("s/big.bin")  # which no longer exists
    assert set(store.objects("")) == {"s/a/study.yaml"}
    store.delete_all("s")
    store.delete_all("s")
    assert store.objects("s") == {}
    with pytest.raises(FileNotFoundError):
        store.read("s/big.bin")


def test_no_name_of_an_object_leads_out_of_its_prefix(bucket: Bucket) -> None:
    for key in ("../escaped", "a/../../../escaped", "/escaped", "a//escaped"):
        boto3.client("s3", endpoint_url=f"http://{bucket.endpoint}").put_object(
            Bucket=bucket.name, Key=f"studies/s/{key}", Body=b"x"
        )
    bucket.write("s/a/kept", b"x")
    assert set(ObjectStore(bucket.uri).objects("s")) == {"a/kept"}


def test_a_store_that_refuses_is_asked_again_for_a_while_and_later_calls_fail_at_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(bucket.uri.replace(bucket.name, "no-such-bucket"))
    monkeypatch.setattr(object_store, "PATIENCE", 1.0)
    pauses: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", pauses.append)
    moments = iter(range(100))
    monkeypatch.setattr(object_store.time, "monotonic", lambda: next(moments) * 0.2)
    with pytest.raises(StoreUnavailable, match=r"^s3://no-such-bucket/studies does not answer as it must"):
        store.write("a", b"1")
    assert pauses == [0.5]
    with pytest.raises(StoreUnavailable):
        store.write("b", b"1")
    assert pauses == [0.5]
    with pytest.raises(UserError, match="must be a place that can be written"):
        store.check("a")


def test_a_store_that_answers_again_is_waited_for_again(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(bucket.uri)
    answers = [OSError("down"), b"0", OSError("connection reset"), OSError("slow down"), b"1"]
    pauses: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", pauses.append)

    def read(key: str) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(store, "_read", read)
    monkeypatch.setattr(object_store, "PATIENCE", 0.0)
    with pytest.raises(StoreUnavailable):
        store.read("a")
    monkeypatch.setattr(object_store, "PATIENCE", 60.0)
    assert store.read("a") == b"0"
    assert store.read("a") == b"1"
    assert pauses == [0.5, 1.0]


def test_an_address_keeps_its_query_at_the_end_and_holds_no_credentials() -> None:
    assert join_uri("s3://b/p/?region=r", "s", "t") == "s3://b/p/s/t?region=r"
    assert join_uri("s3://b/p?region=r", "") == "s3://b/p?region=r"
    refuse_credentials("s3://b/p?region=r")
    for uri in (f"s3://me:{SECRET}@b/p", f"s3://b/p?secret_key={SECRET}"):
        with pytest.raises(UserError, match="must not hold credentials") as caught:
            ObjectStore(uri)
        assert SECRET not in str(caught.value)


def test_a_root_names_a_bucket(bucket: Bucket) -> None:
    with pytest.raises(UserError, match="must name a bucket"):
        ObjectStore(f"s3://?scheme=http&endpoint_override={bucket.endpoint}")
