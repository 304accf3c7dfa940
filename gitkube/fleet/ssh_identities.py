"""Which private keys to log in with: where the inventory or OpenSSH has them, or ssh-agent.

A key that cannot be used is no end: it is noted with its reason, so that a refused login can tell them all.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from gitkube.fleet.hosts import Host

_DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
_AGENT_KEYS = 6
"""sshd ends a connection after as many attempts (MaxAuthTries)."""


def identities(host: Host, refused: list[str]) -> list[tuple[str, paramiko.PKey]]:
    """The keys to try, in order: the named file or the user's default ones, then what ssh-agent holds."""
    home = Path.home() / ".ssh"
    files = [host.identity_file] if host.identity_file else [home / name for name in _DEFAULT_IDENTITIES]
    found: list[tuple[str, paramiko.PKey]] = []
    wants_agent = host.identity_file is None
    for path in files:
        try:
            found.append((str(path), paramiko.PKey.from_path(path)))
        except FileNotFoundError:
            if host.identity_file:
                refused.append(f"{path} does not exist")
        except paramiko.PasswordRequiredException:
            wants_agent = True
            refused.append(f"{path} has a passphrase; add it to ssh-agent")
        except (OSError, ValueError, paramiko.SSHException, UnknownKeyType) as error:
            refused.append(f"{path} cannot be used: {sentence_of(error)}")
    if wants_agent:
        with contextlib.suppress(paramiko.SSHException, OSError):
            found += [
                (f"ssh-agent's {key.get_name()}", key) for key in paramiko.Agent().get_keys()[:_AGENT_KEYS]
            ]
    return found


def sentence_of(error: BaseException) -> str:
    """What a library said went wrong, in one line."""
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return (text.splitlines()[0] if text else type(error).__name__).rstrip(".")[:300]
