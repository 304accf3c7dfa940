"""Kubernetes' protobuf bodies, as dicts.

Go clients of Kubernetes 1.32 and newer send typed objects as protobuf and do not fall back to JSON, so a
server that wants them must read it; answers may always be JSON. Field numbers are facts of Kubernetes' API
that stand in `fields.json`, which `generate.py` makes from the types inside an installed kubectl.
"""

from gitkube.server.protobuf.decode import ProtobufError, UnknownKindError, decode

__all__ = ["ProtobufError", "UnknownKindError", "decode"]
