"""HOST:PORT as members, doors and options have it, read in one way everywhere.

An IPv6 address stands in brackets. Whether a host must be named, and whether port 0 (a free one) will do, is
for those who ask to say.
"""

from __future__ import annotations

MAX_PORT = 65535


class AddressError(ValueError):
    """It is not HOST:PORT."""


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port. The host may be "", for all addresses of this machine.

    Raises:
        AddressError: it is something else.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise AddressError(f"{address!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
