"""For all tests: property tests look for new examples on a developer's machine, and repeat themselves in CI.

A change must not be refused for an example that a random generator found in somebody else's; who works on
the code shall meet it.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
