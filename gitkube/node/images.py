"""The images of this host: pulled by skopeo, kept by content, unpacked once per layer.

    images/blobs/sha256/<digest>    every manifest, configuration and layer, shared by all images
    images/refs/<hash>.json         what a reference stood for when it was last pulled
    images/layers/<digest[:24]>     a layer unpacked; see `layers`

A reference is a pointer to a digest and nothing else, so pulling a new image under an old tag changes no
container that runs. skopeo gets an argument list and reads the host's own registries.conf and policy.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.node import commands, files

PULL_TIMEOUT_S = 3600.0
MAX_PULLS = 3
"""At once; more would only share the same line and disk."""
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
LAYER_NAME_LENGTH = 24
"""Hex digits of a layer's directory: 96 bits cannot collide by chance, and 127 layers fit into a mount."""

_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


class ImageError(Exception):
    """An image cannot be had. `reason` is kubelet's word for it."""

    def __init__(self, message: str, reason: str = "ErrImagePull") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Image:
    """An image that lies on this host, unpacked."""

    reference: str
    digest: str  # of its manifest
    config: dict[str, Any]  # `config` of the OCI configuration
    layers: tuple[str, ...]  # directories under layers/, the topmost first
    size_bytes: int

    @property
    def image_id(self) -> str:
        """As in a container's status: repository and digest."""
        return f"{repository_of(self.reference)}@{self.digest}"


def check_reference(reference: str) -> str:
    """`reference`, when it is a well-formed image name.

    Raises:
        ImageError: InvalidImageName.
    """
    if len(reference) > 512 or not _REFERENCE.fullmatch(reference):
        raise ImageError(
            f"{reference[:200]!r} is not an image name such as registry/name:tag", "InvalidImageName"
        )
    return reference


def skopeo_source(reference: str) -> str:
    """skopeo's name for a reference; a digest wins over a tag beside it, which skopeo refuses together.

    Raises:
        ImageError: InvalidImageName.
    """
    name, at, digest = check_reference(reference).partition("@")
    if at:
        return f"docker://{repository_of(name)}@{digest}"
    return f"docker://{name}" if name != repository_of(name) else f"docker://{name}:latest"


def repository_of(reference: str) -> str:
    """The name without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


class ImageStore:
    """All images of the host. The only writer below images/."""

    def __init__(self, base: Path, run: Path) -> None:
        self._base = base
        self._run = run
        self._known: dict[str, Image] = {}
        self._pulls: dict[tuple[str, str], asyncio.Task[Image]] = {}
        self._slots = asyncio.Semaphore(MAX_PULLS)
        self._unpacking: dict[str, asyncio.Lock] = {}

    @property
    def layers_dir(self) -> Path:
        return self._base / "layers"

    def prepare(self) -> None:
        """Make the directories, and throw away what an interrupted pull left."""
        for name in ("blobs", "refs", "layers", "pulls"):
            (self._base / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.layers_dir.chmod(0o755)
        for leftover in (self._base / "pulls").iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.layers_dir.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def find(self, reference: str) -> Image | None:
        """The image as last pulled, when all of it is here."""
        image = self._known.get(reference)
        if image is not None:
            return image
        record = files.read_json(self._ref_file(reference))
        if record is None:
            return None
        try:
            image = self._read(reference, str(record["digest"]))
        except (OSError, ValueError, KeyError, ImageError):
            return None  # part of it is gone or damaged: a pull puts it right
        if any(not (self.layers_dir / name).is_dir() for name in image.layers):
            return None
        self._known[reference] = image
        return image

    async def pull(self, reference: str, auth: dict[str, Any] | None = None) -> Image:
        """Fetch an image from its registry, and unpack what is new of it. Callers at once share one pull.

        Args:
            reference: name with tag or digest.
            auth: the content of an authentication file, from the pod's pull secrets.

        Raises:
            ImageError: the registry or the disk said no; the text has the cause.
        """
        source = skopeo_source(reference)
        key = (reference, hashlib.sha256(json.dumps(auth, sort_keys=True).encode()).hexdigest())
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.ensure_future(self._pull(reference, source, auth))
            self._pulls[key] = task
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        # Shielded: a pod that goes away must not break the pull for the others who wait for it.
        return await asyncio.shield(task)

    async def _pull(self, reference: str, source: str, auth: dict[str, Any] | None) -> Image:
        async with self._slots:
            work = self._base / "pulls" / uuid.uuid4().hex
            auth_file = self._run / "auth" / f"{work.name}.json"
            try:
                work.mkdir()
                await self._copy(source, work, auth_file if auth else None, auth)
                digest = _single_manifest(files.read_json(work / "index.json"))
                image = await self._unpack(reference, digest)
                await asyncio.to_thread(
                    files.write_json,
                    self._ref_file(reference),
                    {"ref": reference, "digest": digest, "pulledAt": time.time()},
                )
            except (OSError, ValueError, KeyError) as error:
                raise ImageError(f'failed to keep image "{reference}": {error}') from error
            finally:
                auth_file.unlink(missing_ok=True)
                await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        self._known[reference] = image
        return image

    async def _copy(
        self, source: str, work: Path, auth_file: Path | None, auth: dict[str, Any] | None
    ) -> None:
        argv = ["copy", "--quiet", "--dest-shared-blob-dir", str(self._base / "blobs")]
        if auth_file is not None:
            auth_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_json(auth_file, auth, durable=False)
            argv += ["--src-authfile", str(auth_file)]
        argv += ["--", source, f"oci:{work}:image"]
        environment = {
            key: value
            for key, value in os.environ.items()
            if key.lower() in ("path", "http_proxy", "https_proxy", "no_proxy", "home", "tmpdir")
        }
        try:
            await commands.check(
                [commands.find_program("skopeo"), *argv], timeout_s=PULL_TIMEOUT_S, env=environment
            )
        except commands.CommandError as error:
            raise ImageError(_readable(str(error))) from error

    async def _unpack(self, reference: str, digest: str) -> Image:
        manifest = self._json_blob(digest)
        for layer in manifest.get("layers") or []:
            if "foreign" in str(layer.get("mediaType")):
                raise ImageError(f'image "{reference}" has layers that only their vendor may give out')
        await asyncio.gather(*(self._unpack_layer(str(layer["digest"])) for layer in manifest["layers"]))
        return self._read(reference, digest)

    async def _unpack_layer(self, digest: str) -> None:
        lock = self._unpacking.setdefault(digest, asyncio.Lock())
        async with lock:
            target = self.layers_dir / layer_name(digest)
            if not target.is_dir():
                result = await commands.run(
                    commands.self_command("unpack", str(self._blob(digest)), digest, str(target)),
                    timeout_s=PULL_TIMEOUT_S,
                    env=commands.self_environment(),
                )
                if result.code != 0:
                    raise ImageError(f"layer {digest[:19]}: {commands.last_words('unpack', result)}")
        if not lock.locked():
            self._unpacking.pop(digest, None)

    def _read(self, reference: str, digest: str) -> Image:
        manifest = self._json_blob(digest)
        config = self._json_blob(str(manifest["config"]["digest"]))
        layers = [str(layer["digest"]) for layer in manifest["layers"]]
        size = sum(int(layer.get("size") or 0) for layer in manifest["layers"])
        names = dict.fromkeys(layer_name(layer) for layer in reversed(layers))
        return Image(reference, digest, dict(config.get("config") or {}), tuple(names), size)

    def _json_blob(self, digest: str) -> dict[str, Any]:
        with self._blob(digest).open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise ImageError(f"{digest} is larger than a manifest may be ({MAX_MANIFEST_BYTES} bytes)")
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise ImageError(f"{digest} has other content than its name says")
        value = json.loads(content)
        if not isinstance(value, dict):
            raise ImageError(f"{digest} is not a JSON object")
        return value

    def _blob(self, digest: str) -> Path:
        return self._base / "blobs" / "sha256" / digest_hex(digest)

    def _ref_file(self, reference: str) -> Path:
        return self._base / "refs" / f"{hashlib.sha256(reference.encode()).hexdigest()}.json"

    def list(self) -> list[dict[str, Any]]:
        """As in `NodeStatus.images`."""
        found = []
        for file in sorted((self._base / "refs").glob("*.json")):
            record = files.read_json(file) or {}
            image = self.find(str(record.get("ref", "")))
            if image is not None:
                names = [image.image_id, image.reference]
                found.append({"names": names, "sizeBytes": image.size_bytes})
        return found

    def collect(self, references_in_use: Iterable[str], layers_in_use: Iterable[str]) -> int:
        """Remove every image that nothing uses; returns how many references went. Blocks."""
        keep = set(references_in_use)
        keep_layers, removed = set(layers_in_use), 0
        keep_blobs: set[str] = set()
        for file in (self._base / "refs").glob("*.json"):
            record = files.read_json(file) or {}
            reference = str(record.get("ref", ""))
            image = self.find(reference)
            if image is not None and reference in keep:
                manifest = self._json_blob(image.digest)
                keep_layers.update(image.layers)
                keep_blobs.update(
                    digest_hex(str(entry["digest"])) for entry in [manifest["config"], *manifest["layers"]]
                )
                keep_blobs.add(digest_hex(image.digest))
                continue
            file.unlink()
            self._known.pop(reference, None)
            removed += 1
        for layer in self.layers_dir.iterdir():
            if layer.name not in keep_layers:
                shutil.rmtree(layer, ignore_errors=True)
        for blob in (self._base / "blobs").glob("sha256/*"):
            if blob.name not in keep_blobs:
                blob.unlink()
        return removed

    @property
    def is_pulling(self) -> bool:
        return bool(self._pulls)


def digest_hex(digest: str) -> str:
    """The hexadecimal part of a sha256 digest.

    Raises:
        ImageError: it is not one, so it must not become a file name.
    """
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ImageError(f"{digest[:100]!r} is not a sha256 digest")
    return digest[7:]


def layer_name(digest: str) -> str:
    """The directory of an unpacked layer."""
    return digest_hex(digest)[:LAYER_NAME_LENGTH]


def _single_manifest(index: Any) -> str:
    manifests = (index or {}).get("manifests") or []
    if len(manifests) != 1:
        raise ImageError(f"the pull left {len(manifests)} manifests where one was expected")
    return str(manifests[0]["digest"])


def _readable(text: str) -> str:
    """skopeo's words without its log decoration: `… level=fatal msg="cause"` becomes `cause`."""
    match = re.search(r'level=fatal msg="((?:[^"\\]|\\.)*)"', text)
    return match.group(1).replace('\\"', '"').replace("\\n", " ") if match else text
