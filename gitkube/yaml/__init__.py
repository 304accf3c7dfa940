"""YAML to plain dicts that know where each of their values stands in the file.

One reader for manifests, inventories and requests, by YAML 1.2's core schema (so `no` is a string): `reader`
turns text into documents, `document` says what a document, a place and a mistake are. It knows no other
package.
"""

from gitkube.yaml.document import Document, Doubt, Mark, Path, UnknownTagError, YamlError
from gitkube.yaml.reader import MAX_DEPTH, decode, parse

__all__ = [
    "MAX_DEPTH",
    "Document",
    "Doubt",
    "Mark",
    "Path",
    "UnknownTagError",
    "YamlError",
    "decode",
    "parse",
]
