"""The libraries of functions, one file each; importing this registers them all.

`standard` and `times` are CEL's own; the others are the extensions that Kubernetes turns on, with its
semantics."""

from gitkube.objects.cel.functions import (
    addresses,
    encoding,
    formats,
    host,
    lists,
    mathematics,
    optionals,
    quantities,
    regex,
    semver,
    sets,
    standard,
    strings,
    times,
    urls,
)

LOADED = (
    addresses,
    encoding,
    formats,
    host,
    lists,
    mathematics,
    optionals,
    quantities,
    regex,
    semver,
    sets,
    standard,
    strings,
    times,
    urls,
)
