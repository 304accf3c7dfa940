"""A pod's volumes as directories: configMap, secret, downwardAPI, projected, emptyDir and hostPath.

The content of a volume is decided first (`payload`, pure), then written the way kubelet does: a fresh
timestamped directory, a `..data` link that is swapped to it in one rename, and links to files through
`..data`. So a reader sees the old files or the new ones, never some of each. Secrets lie on tmpfs only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gitkube.node import inside, mounts
from gitkube.node.env import (
    ConfigError,
    PodFacts,
    References,
    config_value,
    expand,
    field_value,
    resource_value,
    secret_value,
)
from gitkube.node.kube import Object, namespace_of, uid_of, whole
from gitkube.node.oci import Mount
from gitkube.node.paths import Layout, PodLayout
from gitkube.wire import token_key

DATA_LINK = "..data"
TOKEN = "serviceAccountToken"
DEFAULT_MODE = 0o644
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
"""ConfigMaps and Secrets are at most 1 MiB each; a projected volume joins a few of them."""
WRITTEN_KINDS = ("configMap", "secret", "downwardAPI", "projected")
SUPPORTED_KINDS = (*WRITTEN_KINDS, "emptyDir", "hostPath")


@dataclass(frozen=True)
class File:
    """One file of a volume."""

    content: bytes
    mode: int
    user: int | None = None
    """Who owns it, when that is not root."""


Payload = dict[str, File]


def kind_of(volume: Object) -> str:
    """Which source a volume has.

    Raises:
        ConfigError: one that this agent cannot provide.
    """
    for kind in SUPPORTED_KINDS:
        if volume.get(kind) is not None:
            return kind
    sources = sorted(key for key in volume if key != "name")
    if not sources:
        return "emptyDir"
    raise ConfigError(
        f"volume {volume.get('name')!r} is of type {', '.join(sources)}, which this host cannot provide; "
        f"it knows {', '.join(SUPPORTED_KINDS)}"
    )


def payload(pod: Object, volume: Object, references: References, facts: PodFacts) -> Payload:
    """The files of a volume that is written from the API's objects.

    Raises:
        ConfigError: something that is not optional is missing; the text names it.
    """
    kind = kind_of(volume)
    source = volume[kind]
    mode = int(source["defaultMode"]) if source.get("defaultMode") is not None else DEFAULT_MODE
    if kind != "projected":
        return _bounded(volume, _payload_of(pod, kind, source, mode, references, facts))
    result: Payload = {}
    for part in source.get("sources") or []:
        for part_kind in ("configMap", "secret", "downwardAPI"):
            if part.get(part_kind) is not None:
                result.update(_payload_of(pod, part_kind, part[part_kind], mode, references, facts))
        if part.get(TOKEN) is not None:
            result[str(part[TOKEN]["path"])] = _token(pod, part[TOKEN], mode, references)
        unknown = sorted(set(part) - {"configMap", "secret", "downwardAPI", TOKEN})
        if unknown:
            raise ConfigError(
                f"volume {volume['name']!r} projects {', '.join(unknown)}, which this host cannot provide"
            )
    return _bounded(volume, result)


def _bounded(volume: Object, files: Payload) -> Payload:
    total_bytes = sum(len(file.content) for file in files.values())
    if total_bytes > MAX_PAYLOAD_BYTES:
        raise ConfigError(
            f"volume {volume['name']!r} holds {total_bytes} bytes; the limit is {MAX_PAYLOAD_BYTES}"
        )
    return {checked_path(path): file for path, file in files.items()}


def checked_path(path: str) -> str:
    """A file's path inside a volume, when it can only lie there.

    Raises:
        ConfigError: it is absolute, climbs, or would meddle with the swap's own names.
    """
    parts = path.split("/")
    if path.startswith("/") or not path or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"{path!r} is not a relative path inside a volume")
    if parts[0].startswith(".."):
        raise ConfigError(f"{path!r} starts with '..', which is kept for the volume's own links")
    return path


def _payload_of(
    pod: Object, kind: str, source: Object, mode: int, references: References, facts: PodFacts
) -> Payload:
    if kind == "downwardAPI":
        return {
            str(item["path"]): File(_downward(pod, item, references, facts).encode(), _mode(item, mode))
            for item in source.get("items") or []
        }
    namespace = namespace_of(pod)
    is_secret = kind == "secret"
    name = str(source.get("name") or source.get("secretName") or "")
    holder = references.secret(namespace, name) if is_secret else references.config_map(namespace, name)
    if holder is None:
        if source.get("optional"):
            return {}
        raise ConfigError(f'{"secret" if is_secret else "configmap"} "{name}" not found')
    read = secret_value if is_secret else config_value
    keys = {**(holder.get("data") or {}), **(holder.get("binaryData") or {})}
    if not source.get("items"):
        return {key: File(read(holder, key) or b"", mode) for key in keys}
    result: Payload = {}
    for item in source["items"]:
        content = read(holder, str(item["key"]))
        if content is None:
            if source.get("optional"):
                continue
            raise ConfigError(f'{"secret" if is_secret else "configmap"} "{name}" has no key {item["key"]!r}')
        result[str(item["path"])] = File(content, _mode(item, mode))
    return result


def _token(pod: Object, source: Object, mode: int, references: References) -> File:
    """The token of the pod's ServiceAccount, for whoever the containers run as and nobody else.

    Raises:
        ConfigError: the control side has not sent it yet, or refuses to.
    """
    token = references.token(uid_of(pod), token_key(source))
    if token is None:
        account = pod["spec"].get("serviceAccountName") or "default"
        raise ConfigError(f'no token of serviceaccount "{account}" has come from the control side yet')
    user = _common_user(pod["spec"])
    has_group = (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None
    return File(token.encode(), 0o600 if user is not None or has_group else mode, user)


def _common_user(spec: Object) -> int | None:
    """The user that all containers run as; None when they differ, or their images say."""
    whole_pod = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", whole_pod)
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    }
    only = users.pop() if len(users) == 1 else None
    return None if only is None else int(only)


def _mode(item: Object, default: int) -> int:
    return int(item["mode"]) if item.get("mode") is not None else default


def _downward(pod: Object, item: Object, references: References, facts: PodFacts) -> str:
    if item.get("fieldRef"):
        return field_value(pod, str(item["fieldRef"].get("fieldPath", "")), facts)
    return resource_value(pod, {"name": ""}, item.get("resourceFieldRef") or {}, references)


def write_payload(target: Path, files: Payload, *, group: int | None = None) -> bool:
    """Make a directory show exactly these files, in one step. Returns whether anything changed.

    Raises:
        OSError: the disk said no; the old files stay.
    """
    if (target / DATA_LINK).is_symlink() and _read_back(target / DATA_LINK, files):
        return False
    fresh = target / f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime())}.{time.monotonic_ns()}"
    fresh.mkdir(mode=0o755)
    fresh.chmod(0o755)
    for path, file in files.items():
        place = fresh / path
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as sink:
            sink.write(file.content)
            if group is not None or file.user is not None:
                owner = -1 if file.user is None else file.user
                os.fchown(sink.fileno(), owner, -1 if group is None else group)
            os.fchmod(sink.fileno(), file.mode | (0o440 if group is not None else 0))
    new_link = target / "..data_tmp"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(fresh.name)
    os.replace(new_link, target / DATA_LINK)
    _link_files(target, {path.split("/", 1)[0] for path in files})
    for entry in target.iterdir():
        if entry.name.startswith("..") and entry.name not in (DATA_LINK, fresh.name):
            shutil.rmtree(entry, ignore_errors=True)
    return True


def _read_back(data: Path, files: Payload) -> bool:
    try:
        present = {
            str(place.relative_to(data))
            for place in data.glob("**/*")
            if place.is_file() and not place.is_symlink()
        }
        return present == set(files) and all(
            (data / path).read_bytes() == file.content for path, file in files.items()
        )
    except OSError:
        return False


def _link_files(target: Path, names: Iterable[str]) -> None:
    wanted = set(names)
    for name in wanted:
        link = target / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA_LINK}/{name}")
    for entry in target.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()


class Volumes:
    """Makes, refreshes and removes the volumes of pods. All methods block: call them in a thread."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def set_up(self, pod: Object, references: References, facts: PodFacts) -> None:
        """Make every volume of the pod that is missing, and bring the written ones up to date.

        Raises:
            ConfigError: a reference is missing, or a type is unknown.
            OSError: the disk or the kernel refused.
        """
        pod_layout = self._layout.pod(uid_of(pod))
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        for volume in pod["spec"].get("volumes") or []:
            kind = kind_of(volume)
            if kind == "hostPath":
                _host_path(volume["hostPath"])
                continue
            files = payload(pod, volume, references, facts) if kind in WRITTEN_KINDS else {}
            target = pod_layout.volume(str(volume["name"]))
            self._prepare(target, kind, volume.get(kind) or {}, group)
            if kind in WRITTEN_KINDS:
                write_payload(target, files, group=group)

    def fingerprint(self, pod: Object, references: References, facts: PodFacts) -> str:
        """Changes exactly when a written volume of the pod should. Does not touch the disk.

        Raises:
            ConfigError: as in `set_up`.
        """
        hasher = hashlib.sha256()
        for volume in pod["spec"].get("volumes") or []:
            if kind_of(volume) in WRITTEN_KINDS:
                files = payload(pod, volume, references, facts)
                for path, file in sorted(files.items()):
                    hasher.update(repr((volume["name"], path, file.mode, len(file.content))).encode())
                    hasher.update(file.content)
        return hasher.hexdigest()

    def _prepare(self, target: Path, kind: str, source: Object, group: int | None) -> None:
        is_new = not target.exists()
        target.mkdir(parents=True, exist_ok=True, mode=0o755)
        on_memory = kind in ("secret", "projected") or source.get("medium") == "Memory"
        if on_memory and not mounts.is_mounted(target):
            options = "mode=755" if kind in WRITTEN_KINDS else "mode=777"
            limit = source.get("sizeLimit") if kind == "emptyDir" else MAX_PAYLOAD_BYTES * 4
            if limit:
                options += f",size={whole(limit)}"
            mounts.mount("tmpfs", str(target), "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, options)
            is_new = True
        if is_new:
            target.chmod(0o777 if kind == "emptyDir" else 0o755)
            if group is not None and kind == "emptyDir":
                os.chown(target, -1, group)
                target.chmod(0o2777)

    def mounts_of(self, pod: Object, container: Object, facts_env: dict[str, str]) -> list[Mount]:
        """The container's volume mounts, sub-paths resolved inside their volumes.

        Raises:
            ConfigError: a mount names no volume of the pod, or its sub-path leads out.
            OSError: the kernel refused.
        """
        pod_layout = self._layout.pod(uid_of(pod))
        by_name = {str(volume["name"]): volume for volume in pod["spec"].get("volumes") or []}
        result = []
        for index, wanted in enumerate(container.get("volumeMounts") or []):
            volume = by_name.get(str(wanted["name"]))
            if volume is None:
                raise ConfigError(f"volumeMount names volume {wanted['name']!r}, which the pod does not have")
            source = self._source(pod_layout, volume)
            sub_path = str(wanted.get("subPath") or "")
            if wanted.get("subPathExpr"):
                sub_path = expand(str(wanted["subPathExpr"]), facts_env)
            if sub_path:
                pin = pod_layout.subpath(str(container["name"]), index)
                source = _pin_sub_path(source, sub_path, pin, is_written=kind_of(volume) in WRITTEN_KINDS)
            propagation = {"HostToContainer": "rslave", "Bidirectional": "rshared"}.get(
                str(wanted.get("mountPropagation")), "rprivate"
            )
            read_only = bool(wanted.get("readOnly")) or kind_of(volume) in WRITTEN_KINDS
            result.append(Mount(source, str(wanted["mountPath"]), read_only, ("rbind", propagation)))
        return result

    def _source(self, pod_layout: PodLayout, volume: Object) -> str:
        if kind_of(volume) == "hostPath":
            return str(volume["hostPath"]["path"])
        return str(pod_layout.volume(str(volume["name"])))

    def tear_down(self, uid: str) -> None:
        """Unmount everything of the pod's volumes; their directories go with the pod's own."""
        pod_layout = self._layout.pod(uid)
        mounts.unmount_under(pod_layout.run / "subpaths")
        mounts.unmount_under(pod_layout.volumes)


def _host_path(source: Object) -> None:
    """Check, or where the type says so make, what a hostPath names.

    Raises:
        ConfigError: it is not there, or of another type.
    """
    path, kind = Path(str(source["path"])), str(source.get("type") or "")
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"hostPath {str(path)!r} must be absolute and without '..'")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        path.touch(mode=0o644)
    tests = {
        "Directory": stat.S_ISDIR,
        "DirectoryOrCreate": stat.S_ISDIR,
        "File": stat.S_ISREG,
        "FileOrCreate": stat.S_ISREG,
        "Socket": stat.S_ISSOCK,
        "CharDevice": stat.S_ISCHR,
        "BlockDevice": stat.S_ISBLK,
    }
    if not path.exists():
        if kind:
            raise ConfigError(f"hostPath type check failed: {path} does not exist and should be a {kind}")
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind in tests and not tests[kind](path.stat().st_mode):
        raise ConfigError(f"hostPath type check failed: {path} is not a {kind}")


def _pin_sub_path(volume: str, sub_path: str, pin: Path, *, is_written: bool) -> str:
    """Resolve a sub-path inside its volume, and hold what was found by a bind mount at `pin`.

    A container that shares the volume could swap a directory for a link between looking and mounting; the
    mount is made from the descriptor that was looked at, so it cannot.
    """
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise ConfigError(f"subPath {sub_path!r} must be relative and without '..'")
    root_fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            found_fd = inside.open_file(root_fd, sub_path, os.O_PATH)
        except FileNotFoundError:
            if is_written:
                raise ConfigError(f"subPath {sub_path!r} is not in the volume") from None
            found_fd = inside.open_directory(root_fd, sub_path, create=True)
            os.fchmod(found_fd, 0o777 & os.fstat(root_fd).st_mode)
    finally:
        os.close(root_fd)
    try:
        mounts.unmount_under(pin)
        pin.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(found_fd).st_mode):
            if not pin.is_dir():
                pin.unlink(missing_ok=True)
                pin.mkdir()
        elif not pin.is_file():
            if pin.is_dir():
                pin.rmdir()
            pin.touch()
        mounts.bind(f"/proc/self/fd/{found_fd}", str(pin))
    finally:
        os.close(found_fd)
    return str(pin)
