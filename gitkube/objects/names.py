"""Which names, keys and values are allowed, and the sentences that say why not.

The sentences are Kubernetes' own, word by word, because people search for them. Every function returns a list
of complaints, empty when the value is fine, so that a caller can add the field they belong to. Namespaces,
labels and keys are the same few words in thousands of objects; those that were right once are known.
Source: k8s.io/apimachinery/pkg/util/validation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps

LABEL_MAX = 63
SUBDOMAIN_MAX = 253
PORT_NAME_MAX = 15

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = rf"({_QUALIFIED})?"
_ENV_NAME = r"[ -<>-~]+"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_label_re = re.compile(_LABEL)
_subdomain_re = re.compile(_SUBDOMAIN)
_qualified_re = re.compile(_QUALIFIED)
_label_value_re = re.compile(_LABEL_VALUE)
_env_name_re = re.compile(_ENV_NAME)
_config_key_re = re.compile(_CONFIG_KEY)
_port_name_re = re.compile(r"[-a-z0-9]+")

MAX_KNOWN = 10_000
"""Words that are known to be right, for each rule."""
MAX_KNOWN_CHARACTERS = 63
"""Of such a word: a client may send long ones, which are not worth the memory."""

_Rule = Callable[[str], list[str]]


def _knows_words(rule: _Rule) -> _Rule:
    """The rule, which looks at a word that it has found right no second time."""
    known: set[str] = set()

    @wraps(rule)
    def check(text: str) -> list[str]:
        if text in known:
            return []
        wrong = rule(text)
        if not wrong and len(text) <= MAX_KNOWN_CHARACTERS:
            if len(known) >= MAX_KNOWN:
                known.clear()
            known.add(text)
        return wrong

    return check


@_knows_words
def dns_label(text: str) -> list[str]:
    """RFC 1123 label: namespaces, containers, volumes."""
    wrong = _too_long(text, LABEL_MAX)
    if not _label_re.fullmatch(text):
        if _subdomain_re.fullmatch(text):
            return [*wrong, "must not contain dots"]
        wrong.append(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
            "start and end with an alphanumeric character "
            f"(e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
        )
    return wrong


def dns_subdomain(text: str) -> list[str]:
    """RFC 1123 subdomain: most names."""
    wrong = _too_long(text, SUBDOMAIN_MAX)
    if not _subdomain_re.fullmatch(text):
        wrong.append(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character "
            f"(e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
        )
    return wrong


def path_segment(text: str) -> list[str]:
    """What may stand between two slashes of a URL: names of roles, where nothing else makes a rule."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{character}'" for character in "/%" if character in text]


@_knows_words
def qualified_name(text: str) -> list[str]:
    """Keys of labels, annotations, taints and resources: `name` or `prefix/name`."""
    wrong: list[str] = []
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return [
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and "
            "end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            f"validation is '{_QUALIFIED}') with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    if slash and not prefix:
        wrong.append("prefix part must be non-empty")
    elif slash:
        wrong.extend(f"prefix part {why}" for why in dns_subdomain(prefix))
    if not name:
        wrong.append("name part must be non-empty")
    elif len(name) > LABEL_MAX:
        wrong.append(f"name part must be no more than {LABEL_MAX} bytes")
    if not _qualified_re.fullmatch(name):
        wrong.append(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
            "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            f"validation is '{_QUALIFIED}')"
        )
    return wrong


@_knows_words
def label_value(text: str) -> list[str]:
    wrong = _too_long(text, LABEL_MAX)
    if not _label_value_re.fullmatch(text):
        wrong.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
            f"or '12345', regex used for validation is '{_LABEL_VALUE}')"
        )
    return wrong


def env_name(text: str) -> list[str]:
    """Name of an environment variable: printable ASCII without `=`."""
    if not _env_name_re.fullmatch(text):
        return [
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        ]
    return []


@_knows_words
def config_key(text: str) -> list[str]:
    """Key of a ConfigMap or Secret: it becomes a file's name."""
    wrong = _too_long(text, SUBDOMAIN_MAX)
    if not _config_key_re.fullmatch(text):
        wrong.append(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
            f"(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '{_CONFIG_KEY}')"
        )
    if text == ".":
        wrong.append("must not be '.'")
    elif text == "..":
        wrong.append("must not be '..'")
    elif text.startswith(".."):
        wrong.append("must not start with '..'")
    return wrong


def port_name(text: str) -> list[str]:
    """IANA service name (RFC 6335, section 5.1)."""
    wrong: list[str] = []
    if len(text) > PORT_NAME_MAX:
        wrong.append(f"must be no more than {PORT_NAME_MAX} characters")
    if not _port_name_re.fullmatch(text):
        wrong.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= character <= "z" for character in text):
        wrong.append("must contain at least one letter (a-z)")
    if "--" in text:
        wrong.append("must not contain consecutive hyphens")
    if text[:1] == "-" or text[-1:] == "-":
        wrong.append("must not begin or end with a hyphen")
    return wrong


def port_number(port: int) -> list[str]:
    if 1 <= port <= 65535:
        return []
    return ["must be between 1 and 65535, inclusive"]


def _too_long(text: str, limit: int) -> list[str]:
    return [f"must be no more than {limit} bytes"] if len(text.encode()) > limit else []
