"""etcd's gRPC messages and services: the one place that imports the untyped packages they come from.

The messages of KV, Watch, Lease, Cluster, Maintenance and Auth are those that the package `aetcd` carries,
generated from etcd's own definitions. Those of Lock and Election are not in it; they are few and have not
changed since etcd 3.2, so they are described here field by field, and protobuf makes the classes. Messages
have no types to a type checker, so they are `Any` everywhere; `convert.py` is where they become ours.

Invariant: names and field numbers are etcd's (api/etcdserverpb/rpc.proto, api/v3lockpb, api/v3electionpb).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]
import grpc.aio  # type: ignore[import-untyped, unused-ignore]
from aetcd.rpc import kv_pb2, rpc_pb2  # type: ignore[import-untyped, unused-ignore]
from google.protobuf import (  # type: ignore[import-untyped, unused-ignore]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

__all__ = [
    "DecodeError",
    "election",
    "grpc",
    "lock",
    "method_path",
    "mvcc",
    "rpc",
    "service_methods",
]

mvcc: Any = kv_pb2
"""KeyValue and Event."""
rpc: Any = rpc_pb2
"""Requests and responses of the services in `etcdserverpb`."""

_TYPES: Mapping[str, int] = {
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}


class _Messages:
    """The message classes of one package, as attributes by their names."""

    def __init__(self, package: str, messages: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"gitkube/{package}.proto",
            package=package,
            syntax="proto3",
            dependency=[rpc.DESCRIPTOR.name, mvcc.DESCRIPTOR.name],
        )
        for message, fields in messages.items():
            described = file.message_type.add(name=message)
            for number, (name, kind) in enumerate(fields, start=1):
                field = described.field.add(
                    name=name, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
                )
                if kind in _TYPES:
                    field.type = _TYPES[kind]
                else:
                    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                    field.type_name = kind
        pool = descriptor_pool.Default()
        pool.Add(file)
        for message in messages:
            found = pool.FindMessageTypeByName(f"{package}.{message}")
            setattr(self, message, message_factory.GetMessageClass(found))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


_HEADER = ("header", ".etcdserverpb.ResponseHeader")

lock: Any = _Messages(
    "v3lockpb",
    {
        "LockRequest": [("name", "bytes"), ("lease", "int64")],
        "LockResponse": [_HEADER, ("key", "bytes")],
        "UnlockRequest": [("key", "bytes")],
        "UnlockResponse": [_HEADER],
    },
)

election: Any = _Messages(
    "v3electionpb",
    {
        "CampaignRequest": [("name", "bytes"), ("lease", "int64"), ("value", "bytes")],
        "CampaignResponse": [_HEADER, ("leader", ".v3electionpb.LeaderKey")],
        "LeaderKey": [("name", "bytes"), ("key", "bytes"), ("rev", "int64"), ("lease", "int64")],
        "LeaderRequest": [("name", "bytes")],
        "LeaderResponse": [_HEADER, ("kv", ".mvccpb.KeyValue")],
        "ResignRequest": [("leader", ".v3electionpb.LeaderKey")],
        "ResignResponse": [_HEADER],
        "ProclaimRequest": [("leader", ".v3electionpb.LeaderKey"), ("value", "bytes")],
        "ProclaimResponse": [_HEADER],
    },
)


def method_path(service: str, method: str) -> str:
    """The HTTP/2 path of a method, such as `/etcdserverpb.KV/Put`."""
    return f"/{service}/{method}"


def service_methods(service: str) -> Mapping[str, tuple[Any, Any]]:
    """The methods of a service of `etcdserverpb`, each with the classes of its request and response."""
    described = rpc.DESCRIPTOR.services_by_name[service]
    return {
        method.name: (
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
        )
        for method in described.methods
    }
