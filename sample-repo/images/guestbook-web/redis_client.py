"""The few lines of the Redis protocol (RESP2) that the guestbook needs."""

import os
import socket


class Redis:
    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=2)
        self._file = self._socket.makefile("rb")

    @classmethod
    def from_environment(cls) -> "Redis":
        return cls(os.environ.get("REDIS_HOST", "redis"), int(os.environ.get("REDIS_PORT", "6379")))

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def command(self, *words: str):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word.encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self._socket.sendall(b"".join(parts))
        return self._read()

    def _read(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended in the middle of an answer")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._file.read(length + 2)[:-2].decode("utf-8", "replace")
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        raise ConnectionError(f"redis says: {rest.decode('utf-8', 'replace')}")
