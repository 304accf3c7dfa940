#!/usr/bin/env -S python3 -IS
"""gitkube's hook: hands a push to the control plane and prints what it answers.

Installed into a bare repository as pre-receive and post-receive. Standard library only, any Python 3.6+.
It decides nothing: an answer of pre-receive other than success refuses the push, and without an answer the
push is refused too, since nobody has looked at it. A control plane that does not answer, or goes away in the
middle, is asked again for some seconds: it may be restarted, and another controller may lead now.
"""

import json
import os
import signal
import socket
import sys
import time
import typing

MARKER = "gitkube-hook-v1"
SOCKET = ""
SILENCE_S = 180
START_S = 5
AGAIN_S = 15


def main() -> int:
    name = os.path.basename(sys.argv[0])
    updates = [line.split(" ", 2) for line in sys.stdin.read().splitlines() if line.strip()]
    request = {
        "hook": name,
        "updates": updates,
        "quarantine": os.environ.get("GIT_QUARANTINE_PATH", ""),
    }
    was_storing = False
    try:
        # A socket's path may have 107 bytes at most: a name relative to its directory always fits.
        os.chdir(os.path.dirname(SOCKET))
        connection = connect(START_S, "the control plane does not answer")
        while True:
            code, is_storing, lost = ask(connection, request)
            was_storing = was_storing or is_storing
            if not lost:
                return code
            if name != "pre-receive":
                raise OSError(lost)
            # To ask again is safe, and git keeps the commits for us meanwhile.
            connection = connect(AGAIN_S, f"the control plane went away ({lost})")
    except (OSError, ValueError) as error:
        return away(name, error, was_storing)


def connect(patience_s: float, trouble: str) -> socket.socket:
    """A connection; the trouble is told when the first second has not brought one."""
    began = time.monotonic()
    was_told = False
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(SILENCE_S)
        try:
            connection.connect(os.path.basename(SOCKET))
            return connection
        except OSError:
            connection.close()
            waited_s = time.monotonic() - began
            if waited_s >= patience_s:
                raise
            if waited_s >= 1.0 and not was_told:
                was_told = True
                print(f"waiting  {trouble}; trying again", flush=True)
            time.sleep(0.2)


def ask(connection: socket.socket, request: "dict[str, typing.Any]") -> "tuple[int, bool, str]":
    """The exit code, whether the push may be stored though nobody said so, and why no code came."""
    is_storing = False
    try:
        connection.sendall(json.dumps(request).encode("utf-8", "surrogateescape") + b"\n")
        for line in connection.makefile("r", encoding="utf-8", errors="replace"):
            answer = json.loads(line)
            if "exit" in answer:
                return int(answer["exit"]), is_storing, ""
            if "stage" in answer:
                is_storing = True
            else:
                print(answer["line"], flush=True)
    except OSError as error:
        return 1, is_storing, reason(error)
    finally:
        connection.close()
    return 1, is_storing, "it ended in the middle of its answer"


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def away(name: str, error: Exception, was_storing: bool) -> int:
    why = reason(error)
    if name == "pre-receive" and was_storing:
        print(f"unknown  the control plane went away while it stored the push ({why})")
        print("         another controller may deploy it: gitkube status")
        print("         to push the same commit again, to any controller, is safe", flush=True)
        return 1
    if name == "pre-receive":
        print(f"refused  nothing was changed: the control plane does not answer ({why})")
        print(f"         start it with: gitkube serve   (its socket is {SOCKET})", flush=True)
        return 1
    print(f"waiting  the push is stored, but the control plane does not answer ({why})")
    print("         it is deployed as soon as gitkube serve runs again, here or elsewhere", flush=True)
    return 0


def stop(number: int, frame: typing.Any) -> None:
    os.write(1, b"stopped  watching only; the deployment goes on: gitkube status\n")
    os._exit(0 if os.path.basename(sys.argv[0]) == "post-receive" else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop)
    sys.exit(main())
