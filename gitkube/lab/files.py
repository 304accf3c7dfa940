"""What a lab writes down: the inventory for the control plane, and the files that make a host itself.

Texts are decided by pure functions; `write_etc`, `make_key` and `fitting_upper` act. The root overlay's upper
layer should be on the disk, where it is kept through everything; overlayfs refuses that when the disk is the
very file system that it stacks on, so then it is a tmpfs, mounted on the machine and so kept through a host's
power cut, though not through the machine's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from gitkube.lab.layout import REGISTRY_NAME, REGISTRY_PORT, HostLayout, LabLayout
from gitkube.lab.netns import run

LAYER_SIZE = "2g"
"""Of a tmpfs layer; memory is used only for what the host really changes."""
_NO_UPPER = frozenset({"overlay", "nfs", "nfs4", "vfat", "ntfs", "fuse", "9p", "virtiofs", "aufs"})

SSHD_CONFIG = """\
# Of a gitkube lab host.
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
X11Forwarding no
MaxSessions 64
MaxStartups 100
Subsystem sftp internal-sftp
"""


_REGISTRIES_CONF = f"""\
[[registry]]
location = "{REGISTRY_NAME}:{REGISTRY_PORT}"
insecure = true
"""


def inventory_text(layout: LabLayout, host_keys: Mapping[str, str], identity_file: Path) -> str:
    """The hosts in gitkube's inventory form. Every text is quoted as JSON, which YAML contains."""
    quote = json.dumps
    lines = [f"# The lab in {layout.directory}; written by `gitkube lab up`.", "hosts:"]
    for host in layout.hosts:
        lines += [
            f"  {host.name}:",
            f"    address: {quote(host.address)}",
            "    user: root",
            f"    identity_file: {quote(str(identity_file))}",
            f"    host_keys: [{quote(host_keys[host.name])}]",
            "    labels:",
            f"      topology.kubernetes.io/zone: {quote(host.zone)}",
        ]
    return "\n".join(lines) + "\n"


def known_hosts_text(layout: LabLayout, host_keys: Mapping[str, str]) -> str:
    """For OpenSSH's UserKnownHostsFile."""
    return "".join(f"{host.name},{host.address} {host_keys[host.name]}\n" for host in layout.hosts)


def etc_files(layout: LabLayout, host: HostLayout) -> dict[str, str]:
    """What differs in a host's /etc from the machine's; the keys are added beside these."""
    names = [f"{each.address} {each.name}" for each in layout.hosts]
    identity = hashlib.sha256(f"{layout.directory}/{host.name}".encode()).hexdigest()[:32]
    return {
        "hostname": f"{host.name}\n",
        "hosts": "\n".join([
            "127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback",
            *names, f"{layout.machine_address} {REGISTRY_NAME}", "",
        ]),
        "resolv.conf": "# The lab has no way out, so there is nobody to ask.\n",
        "machine-id": f"{identity}\n",
        "ssh/sshd_config": SSHD_CONFIG,
        "containers/registries.conf": _REGISTRIES_CONF,
    }  # fmt: skip


def write_etc(directory: Path, layout: LabLayout, host: HostLayout) -> None:
    for name, text in etc_files(layout, host).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def needs_tmpfs(directory: Path, mountinfo: str) -> bool:
    """Whether overlayfs over / would refuse an upper layer in `directory`. Pure.

    It refuses an upper layer that lies inside its lower one ("overlapping"), and file systems that lack
    whiteouts, extended attributes or d_type.
    """
    best, found = "", ("", "")
    root_device = ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        mount_point, kind = fields[4], right.split(" ")[0]
        if mount_point == "/":
            root_device = fields[2]
        if directory.is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, found = mount_point, (fields[2], kind)
    device, kind = found
    return device == root_device or kind in _NO_UPPER or kind.startswith("fuse.")


def fitting_upper(layer: Path) -> Path:
    """A directory with `upper` and `work` in it that the root overlay can use."""
    layer.mkdir(parents=True, exist_ok=True)
    mountinfo = Path("/proc/self/mountinfo").read_text()
    if needs_tmpfs(layer, mountinfo):
        run(["mount", "-t", "tmpfs", "-o", f"mode=755,size={LAYER_SIZE}", "gitkube-lab", str(layer)])
    for name in ("upper", "work"):
        (layer / name).mkdir(exist_ok=True)
    return layer


def make_key(path: Path, comment: str) -> None:
    """An SSH key pair at `path` and `path`.pub, unless there is one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
