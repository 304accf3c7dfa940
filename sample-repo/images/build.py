#!/usr/bin/env python3
"""Builds the sample's images from Debian (or Ubuntu) packages, without a container engine.

    python3 sample-repo/images/build.py --output DIR

Each image becomes an OCI image layout `DIR/NAME_TAG`. Packages come from the machine's own package mirror
(`apt-get download`, no root needed) and are unpacked, never installed: no script of theirs runs. The same
packages give the same bytes: files are sorted, times and owners are fixed. Layers are shared, so that a host
which has one image gets the next one cheaply, and the two versions of the web image differ by a few bytes.
"""

import argparse
import functools
import gzip
import hashlib
import importlib.util
import io
import json
import marshal
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent

# Needed to install a package on a machine, not to run a program in a container.
LEFT_OUT = re.compile(
    r"adduser|debconf.*|dpkg|init-system-helpers|libpam.*|login|lsb-base|mailcap|media-types|passwd|perl.*"
    r"|procps|sysvinit-utils|tar|tzdata|gcc-.*-base|readline-common|cdebconf|libdebconf.*|usrmerge|usr-is-merged"
    r"|python3\.\d+|libsystemd-shared|systemd.*"
)
DROPPED = re.compile(
    r"usr/share/(doc|man|info|locale|lintian|bug|doc-base|applications|pixmaps|binfmts|menu|zsh|bash-completion)(/|$)"
    r"|usr/lib/[^/]+/(gconv|audit)(/|$)|.*/__pycache__(/|$)"
    r"|usr/lib/python3[^/]*/(idlelib|lib2to3|test|ensurepip|turtledemo|tkinter|pydoc_data|distutils)(/|$)"
    r"|usr/lib/python3\.\d+/config-.*"
)
# What a small server imports; the rest of the library is compiled when somebody needs it.
COMPILED = set(
    """
abc.py argparse.py base64.py bisect.py calendar.py codecs.py collections concurrent contextlib.py
copy.py copyreg.py datetime.py email encodings enum.py fnmatch.py functools.py genericpath.py
gettext.py hashlib.py heapq.py html http importlib io.py ipaddress.py json keyword.py linecache.py
locale.py logging mimetypes.py ntpath.py operator.py os.py posixpath.py queue.py quopri.py random.py
re reprlib.py selectors.py shutil.py signal.py site.py socket.py socketserver.py ssl.py stat.py
string.py struct.py subprocess.py tempfile.py textwrap.py threading.py token.py tokenize.py
traceback.py types.py typing.py urllib uuid.py warnings.py weakref.py _bootlocale.py
_collections_abc.py _compression.py _sitebuiltins.py _weakrefset.py zipfile.py
""".split()  # noqa: SIM905 - read as words, it fits on the screen
)
PACKAGES = ("busybox", "python3-minimal", "libpython3-stdlib", "redis-server")
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
APPLETS = """
[ ash awk basename cat chmod chown clear cp cut date dd df dirname du echo env expr false find free
grep gunzip gzip head hostname httpd id ip kill ln ls md5sum mkdir mv nc netstat nslookup ping
printf ps pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat stty tail tar tee test
time timeout top touch tr true tty uname uniq uptime vi watch wc wget which whoami xargs yes
""".split()  # noqa: SIM905 - read as words, it fits on the screen


class Layer:
    """Files of one layer by path. The same files give the same bytes."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        self._packed: tuple[str, bytes] | None = None

    def add(
        self, path: str, data: bytes = b"", *, mode: int = 0o644, link: str = "", directory: bool = False
    ):
        info = tarfile.TarInfo(path)
        info.mode, info.size = mode, len(data)
        if directory:
            info.type, info.mode = tarfile.DIRTYPE, mode | 0o111
        if link:
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, link, 0o777
        self._entries.setdefault(path, (info, data))

    def add_package(self, archive: Path) -> None:
        content = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, stdout=subprocess.PIPE
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(content)) as package:
            for member in package:
                path = _merged(member.name)
                if not path or DROPPED.match(path):
                    continue
                if member.isdir():
                    self.add(path, directory=True, mode=member.mode)
                elif member.issym():
                    self.add(path, link=member.linkname)
                elif member.islnk():
                    target = self._entries[_merged(member.linkname)]
                    self.add(path, target[1], mode=target[0].mode)
                elif member.isfile():
                    file = package.extractfile(member)
                    assert file is not None
                    self.add(path, file.read(), mode=member.mode)

    def compile_python(self) -> None:
        """Add the byte code that Python would otherwise make at each start of a container.

        Needs the same minor version here as in the image; without it containers only start slower. The byte
        code names no time ("unchecked hash", PEP 552), so the same sources give the same bytes.
        """
        own = f"usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}/"
        for path, (_, source) in list(self._entries.items()):
            relative = PurePosixPath(path.removeprefix(own))
            if not path.startswith(own) or relative.suffix != ".py" or relative.parts[0] not in COMPILED:
                continue
            code = compile(source, f"/{path}", "exec", dont_inherit=True)
            header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
            data = header + importlib.util.source_hash(source) + marshal.dumps(code)
            cached = relative.with_name("__pycache__") / f"{relative.stem}.{sys.implementation.cache_tag}.pyc"
            self.add(f"{own}{cached}", data)

    def packed(self) -> tuple[str, bytes]:
        """The digest of the layer's tar and the tar compressed. Nothing can be added after."""
        if self._packed is None:
            content = self._tar()
            digest = hashlib.sha256(content).hexdigest()
            self._packed = f"sha256:{digest}", gzip.compress(content, compresslevel=1, mtime=0)
        return self._packed

    def _tar(self) -> bytes:
        for path in list(self._entries):
            for parent in PurePosixPath(path).parents:
                if str(parent) != ".":
                    self.add(str(parent), directory=True, mode=0o755)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self._entries):
                info, data = self._entries[path]
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


def _merged(name: str) -> str:
    """A path of a package in a root where /bin, /lib and their kin are links into /usr."""
    path = name.removeprefix("./").strip("/")
    first = path.split("/", 1)[0]
    return f"usr/{path}" if first in MERGED else path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="directory for the image layouts")
    parser.add_argument(
        "--cache", type=Path, help="directory for downloaded packages (default: OUTPUT/packages)"
    )
    options = parser.parse_args()
    output: Path = options.output
    cache: Path = (options.cache or output / "packages").resolve()
    cache.mkdir(parents=True, exist_ok=True)

    base = Layer()
    for name in MERGED:
        base.add(name, link=f"usr/{name}")
        base.add(f"usr/{name}", directory=True)
    for name in ("dev", "proc", "sys", "run", "etc", "root", "var", "home"):
        base.add(name, directory=True)
    for name in ("tmp", "var/tmp"):
        base.add(name, directory=True, mode=0o1777)
    base.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
                           b"app:x:1000:1000:app:/:/bin/false\n")  # fmt: skip
    base.add("etc/group", b"root:x:0:\nnogroup:x:65534:\napp:x:1000:\n")
    base.add("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    # Not the static one: it cannot look up names, for its libc loads what that needs at run time.
    add_packages(base, ["busybox"], cache)
    for applet in APPLETS:
        base.add(f"usr/bin/{applet}", link="busybox")

    python, redis = Layer(), Layer()
    have = closure(["busybox"])
    add_packages(python, ["python3-minimal", "libpython3-stdlib"], cache, without=have)
    python.compile_python()
    add_packages(redis, ["redis-server"], cache, without=have)
    redis.add("data", directory=True, mode=0o777)

    web = []
    for version in ("1", "2"):
        app = Layer()
        for file in sorted((HERE / "guestbook-web").glob("*.py")):
            app.add(f"app/{file.name}", file.read_bytes())
        app.add("app/version", f"{version}\n".encode())
        web.append(app)

    write_image(output, "busybox", "1", [base], {"Cmd": ["sh"]})
    write_image(output, "redis", "7", [base, redis], {
        "Entrypoint": ["redis-server", "--dir", "/data", "--save", "", "--protected-mode", "no"],
        "WorkingDir": "/data", "User": "1000:1000", "ExposedPorts": {"6379/tcp": {}},
    })  # fmt: skip
    for version, app in zip(("1", "2"), web, strict=True):
        write_image(output, "guestbook-web", version, [base, python, app], {
            "Env": [f"GUESTBOOK_VERSION={version}", "PYTHONDONTWRITEBYTECODE=1"],
            "Cmd": ["python3", "/app/app.py"],
            "WorkingDir": "/app", "User": "1000:1000", "ExposedPorts": {"8080/tcp": {}},
        })  # fmt: skip
    return 0


@functools.cache
def dependencies() -> dict[str, list[str]]:
    """What each package of the images needs to run; of alternatives the first. One call, for it is slow."""
    lines = subprocess.run(
        ["apt-cache", "depends", "--recurse", "-i", "--", *PACKAGES],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout.splitlines()  # fmt: skip
    found: dict[str, list[str]] = {}
    needs: list[str] = []
    is_alternative = False
    for line in lines:
        kind, _, name = line.strip().partition(": ")
        if not line.startswith(" "):
            needs = found.setdefault(line.strip(), [])
            is_alternative = False
        elif name:
            if not is_alternative and not name.startswith("<") and not LEFT_OUT.fullmatch(name):
                needs.append(name)
            is_alternative = kind.startswith("|")
    return found


def closure(names: list[str]) -> set[str]:
    """The packages with all they need to run, by name."""
    found: set[str] = set()
    level = set(names)
    while level:
        found |= level
        level = {need for name in level for need in dependencies().get(name, [])} - found
    return found


def add_packages(layer: Layer, names: list[str], cache: Path, without: set[str] = frozenset()) -> None:
    packages = sorted(closure(names) - set(without))
    missing = [name for name in packages if not list(cache.glob(f"{name}_*.deb"))]
    if missing:
        print(f"downloading {len(missing)} packages for {' '.join(names)}", flush=True)
        subprocess.run(
            ["apt-get", "download", "-q", "--", *missing], check=True, cwd=cache, stdout=sys.stderr
        )
    for name in packages:
        (archive,) = sorted(cache.glob(f"{name}_*.deb"))[-1:]
        layer.add_package(archive)


def write_image(output: Path, name: str, tag: str, layers: list[Layer], config: dict) -> None:
    """One OCI image layout (image-spec 1.0), readable by skopeo as `oci:PATH:TAG`."""
    path = output / f"{name}_{tag}"
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data: bytes, media_type: str) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    diff_ids, descriptors = [], []
    for layer in layers:
        diff_id, packed = layer.packed()
        diff_ids.append(diff_id)
        descriptors.append(put(packed, "application/vnd.oci.image.layer.v1.tar+gzip"))
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    environment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        *config.get("Env", []),
    ]
    image = {
        "created": "1970-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
        "config": {**config, "Env": environment},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(_json(image), "application/vnd.oci.image.config.v1+json"),
        "layers": descriptors,
    }
    descriptor = put(_json(manifest), "application/vnd.oci.image.manifest.v1+json")
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (path / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (path / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [descriptor]}))
    size = sum(each["size"] for each in descriptors)
    print(
        f"{name}:{tag}  {size / 1e6:.1f} MB in {len(layers)} layers  {descriptor['digest'][:19]}", flush=True
    )


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    sys.exit(main())
