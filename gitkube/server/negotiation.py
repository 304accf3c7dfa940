"""Which form of an answer the client wants: the object, a table of it, or only its metadata.

Kubernetes puts the form into the parameters of the media type, such as
`application/json;as=Table;v=v1;g=meta.k8s.io`. Offers are taken in the client's order of preference (`q`,
then as written); the first that we can make wins, and none at all is 406 (RFC 9110, section 12.5.1). What we
make is JSON or YAML; clients that would rather have protobuf list JSON as well.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from gitkube.api.errors import StatusError

JSON = "application/json"
YAML = "application/yaml"
MAX_OFFERS = 32
"""More than this in one Accept header is no preference but an attack on the parser."""


class As(enum.Enum):
    """The forms of an answer."""

    OBJECT = ""
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"
    PARTIAL_LIST = "PartialObjectMetadataList"


@dataclass(frozen=True, slots=True)
class Form:
    form: As
    version: str = ""
    """Of `meta.k8s.io`: "v1" or "v1beta1"; "" for OBJECT."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One range of an Accept header."""

    type: str
    """Such as `application/json`, lower case."""
    parameters: dict[str, str]
    quality: float


WHOLE = Form(As.OBJECT)
_FORMS = {form.value: form for form in As if form is not As.OBJECT}


def parse_accept(header: str) -> list[Offer]:
    """The ranges of an Accept header, best first. What cannot be read is left out."""
    offers = []
    for part in header.split(",")[:MAX_OFFERS]:
        pieces = [piece.strip() for piece in part.split(";")]
        if not pieces[0]:
            continue
        parameters: dict[str, str] = {}
        quality = 1.0
        for piece in pieces[1:]:
            key, _, value = piece.partition("=")
            if key.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
            else:
                parameters[key.strip()] = value.strip().strip('"')
        if quality > 0:
            offers.append(Offer(pieces[0].lower(), parameters, quality))
    return sorted(offers, key=lambda offer: -offer.quality)


def is_json(type: str) -> bool:
    return type in (JSON, "*/*")


@lru_cache(maxsize=256)
def check_document(header: str) -> None:
    """Refuse an Accept header that can have neither JSON nor YAML.

    Raises:
        StatusError: 406.
    """
    if header and not any(offer.type == YAML or is_json(offer.type) for offer in parse_accept(header)):
        raise not_acceptable()


@lru_cache(maxsize=256)
def is_yaml_preferred(header: str) -> bool:
    """Whether an Accept header would have YAML rather than JSON."""
    for offer in parse_accept(header):
        if offer.type == YAML or is_json(offer.type):
            return offer.type == YAML
    return False


@lru_cache(maxsize=256)
def wanted_form(header: str, *, has_table: bool = True) -> Form:
    """The form that an Accept header asks for.

    Args:
        has_table: whether there is a table of what is asked for; there is none of an answer to a question,
            such as a review of access.

    Raises:
        StatusError: 406, we can make none of them.
    """
    if not header:
        return WHOLE
    for offer in parse_accept(header):
        if not is_json(offer.type) and offer.type != YAML:
            continue
        kind = offer.parameters.get("as", "")
        if not kind:
            return WHOLE
        version = offer.parameters.get("v", "v1")
        is_meta = offer.parameters.get("g", "meta.k8s.io") == "meta.k8s.io"
        if kind == As.TABLE.value and not has_table:
            continue
        if kind in _FORMS and is_meta and version in ("v1", "v1beta1"):
            return Form(_FORMS[kind], version)
    raise not_acceptable()


def not_acceptable() -> StatusError:
    text = "only the following media types are accepted: application/json, application/yaml, "
    text += "application/json;as=Table;v=v1;g=meta.k8s.io, "
    text += "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    return StatusError(406, "NotAcceptable", text)
