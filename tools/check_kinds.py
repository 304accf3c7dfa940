"""Compares the records of `gitkube/objects/kinds.py` with a list made by others.

`pip download --no-deps lightkube-models==1.37.*`, unpack it anywhere, then
`python tools/check_kinds.py DIRECTORY` (from the root). lightkube-models is generated from Kubernetes'
OpenAPI, so it knows every resource with plural, scope, verbs and subresources; what it lacks are short names
and categories, and what is no REST resource of its own (exec, proxy). What differs is printed, a line each.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gitkube.objects.kinds import SERVED

_CLASS = re.compile(
    r"class \w+\(res\.(\w+),.*?ResourceDef\('([^']*)', '([^']*)', '(\w+)'\)(.*?)\n    \)", re.DOTALL
)
_VERBS = {"post": "create", "put": "update"}
_NOT_YET = {"token", "ephemeralcontainers", "resize"}


def main() -> None:
    theirs: dict[tuple[str, str, str], tuple[bool, set[str]]] = {}
    subresources: dict[tuple[str, str], set[str]] = {}
    for path in sorted(Path(sys.argv[1]).glob("lightkube/resources/*_v[0-9].py")):
        for base, group, version, _, rest in _CLASS.findall(path.read_text()):
            plural = _word(rest, "plural")
            if "SubResource" in base:
                subresources.setdefault((path.stem, plural), set()).add(_word(rest, "action"))
                continue
            verbs = {_VERBS.get(verb, verb) for verb in re.findall(r"'(\w+)'", rest.partition("verbs=")[2])}
            verbs -= {"global_list", "global_watch"}
            theirs[group, version, plural] = base.startswith("Namespaced"), verbs
    ours = {(kind.group, kind.version, kind.plural): kind for kind in SERVED}
    for key in sorted(theirs.keys() - ours.keys()):
        print("not served:", *key)
    for key in sorted(ours.keys() - theirs.keys()):
        print("ours alone:", *key)
    for key in sorted(ours.keys() & theirs.keys()):
        is_namespaced, verbs = theirs[key]
        if ours[key].namespaced is not is_namespaced or set(ours[key].verbs) != verbs:
            print("differs:", *key, "| theirs:", is_namespaced, *sorted(verbs))
    by_plural = {kind.plural: kind for kind in SERVED}
    for (_, plural), names in sorted(subresources.items()):
        if plural in by_plural and (missing := names - set(by_plural[plural].subresources) - _NOT_YET):
            print("lacks subresources:", plural, *sorted(missing))


def _word(text: str, name: str) -> str:
    found = re.search(rf"{name}='([^']+)'", text)
    return found.group(1) if found else ""


if __name__ == "__main__":
    main()
