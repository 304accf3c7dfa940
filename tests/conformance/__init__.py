"""Conformance: what Kubernetes promises, asked of a live cluster over HTTP."""
