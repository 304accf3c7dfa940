"""How others check our tokens without asking us: OpenID Connect Discovery 1.0, and the public keys.

A program outside (a secret store, a cloud) that trusts this issuer reads the two documents, which are open to
ServiceAccounts and whoever a binding names.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from gitkube.api.errors import StatusError
from gitkube.api.jwt import ALGORITHM, SigningKey
from gitkube.api.tokens import ISSUER
from gitkube.server.answers import json_answer
from gitkube.server.negotiation import parse_accept

DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/openid/v1/jwks"
KEYS_TYPE = "application/jwk-set+json"
_CACHE = {"Cache-Control": "public, max-age=3600"}


def discovery(request: web.Request) -> web.Response:
    """The provider's configuration."""
    document = {
        "issuer": ISSUER,
        "jwks_uri": f"https://{request.host}{KEYS_PATH}",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
    }
    return json_answer(request, document, headers=_CACHE)


def keys(request: web.Request, key: SigningKey) -> web.Response:
    """The keys that tokens are signed with.

    Raises:
        StatusError: 406.
    """
    accepted = {offer.type for offer in parse_accept(request.headers.get("Accept", "*/*"))}
    if not accepted & {"*/*", "application/*", KEYS_TYPE}:
        raise StatusError(406, "NotAcceptable", f"only {KEYS_TYPE} is served here")
    body = orjson.dumps({"keys": [key.to_jwk()]})
    return json_answer(request, body, content_type=KEYS_TYPE, headers=_CACHE)
