"""Definitions of others' kinds that gitkube ships, for who wants them: `gitkube crds` prints them as YAML.

They are not served by default. What runs is what git holds: whoever wants the kinds commits the YAML, or
applies it, and takes a newer one when it suits. Each bundle is a data file beside this one, which `compact`
makes whole definitions of.
"""

from __future__ import annotations

from gitkube.definitions.compact import definitions_of

BUNDLES = {"gateway-api": "gateway_api.yaml"}
"""Name of a bundle -> its file."""

__all__ = ["BUNDLES", "definitions_of"]
