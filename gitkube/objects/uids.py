"""Identities that nobody else will come by: version 4 of UUID, from a source of chance that is given.

Source: RFC 9562, section 5.4. Every request and every new object has one.
"""

from __future__ import annotations

import random

_RANDOM_BITS = 0xFFFFFFFF_FFFF_0FFF_3FFF_FFFFFFFFFFFF
_VERSION_AND_VARIANT = 0x00000000_0000_4000_8000_000000000000


def new_uid(rng: random.Random) -> str:
    """Such as `0f6d3a52-6b1c-4f6e-9d2a-3c1f7a6b5e48`."""
    digits = f"{rng.getrandbits(128) & _RANDOM_BITS | _VERSION_AND_VARIANT:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
