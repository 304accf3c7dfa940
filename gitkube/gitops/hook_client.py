#!/usr/bin/env -S python3 -IS
"""gitkube's hook: hands a push to the control plane and prints what it answers.

Installed into a bare repository as pre-receive and post-receive. Standard library only, any Python 3.6+.
It decides nothing: an answer of pre-receive other than success refuses the push, and without an answer the
push is refused too, since nobody has looked at it.
"""

import json
import os
import signal
import socket
import sys
import typing

MARKER = "gitkube-hook-v1"
SOCKET = ""
SILENCE_S = 180


def main() -> int:
    name = os.path.basename(sys.argv[0])
    told = {"storing": False}
    updates = [line.split(" ", 2) for line in sys.stdin.read().splitlines() if line.strip()]
    request = {
        "hook": name,
        "updates": updates,
        "quarantine": os.environ.get("GIT_QUARANTINE_PATH", ""),
    }
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(SILENCE_S)
    try:
        # A socket's path may have 107 bytes at most: a name relative to its directory always fits.
        os.chdir(os.path.dirname(SOCKET))
        connection.connect(os.path.basename(SOCKET))
        connection.sendall(json.dumps(request).encode("utf-8", "surrogateescape") + b"\n")
        return relay(connection.makefile("r", encoding="utf-8", errors="replace"), told)
    except (OSError, ValueError) as error:
        return away(name, error, told["storing"])


def relay(answers: typing.TextIO, told: dict[str, bool]) -> int:
    for line in answers:
        answer = json.loads(line)
        if "exit" in answer:
            return int(answer["exit"])
        if "stage" in answer:
            told["storing"] = True
        else:
            print(answer["line"], flush=True)
    raise OSError("it went away in the middle of the answer")


def away(name: str, error: Exception, was_storing: bool) -> int:
    why = getattr(error, "strerror", None) or str(error)
    if name == "pre-receive" and was_storing:
        print(f"unknown  the control plane went away while it stored the push ({why})")
        print("         another controller may deploy it: gitkube status")
        print("         to push the same commit again, there or here, is safe", flush=True)
        return 1
    if name == "pre-receive":
        print(f"refused  nothing was changed: the control plane does not answer ({why})")
        print(f"         start it with: gitkube serve   (its socket is {SOCKET})", flush=True)
        return 1
    print(f"waiting  the push is stored, but the control plane does not answer ({why})")
    print("         it is deployed as soon as gitkube serve runs again", flush=True)
    return 0


def stop(number: int, frame: typing.Any) -> None:
    os.write(1, b"stopped  watching only; the deployment goes on: gitkube status\n")
    os._exit(0 if os.path.basename(sys.argv[0]) == "post-receive" else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop)
    sys.exit(main())
