"""Write constraints.txt: the versions, in this environment, of everything that the package and its extras pull in.

Run it as `.venv/bin/python .ci/pins.py > constraints.txt`.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRAS = ("dev",)
HEADER = """\
# The versions that our own set-up and CI use; written by .ci/pins.py. Users need none of these: pyproject.toml has the
# lower bounds. torch is pinned without a build tag, so that a CPU build and a CUDA build both satisfy it.
"""


def closure(root: str, extras: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of everything below a package.

    Args:
        root: name of an installed package.
        extras: its extras to follow as well.

    Returns:
        Version by normalized name, the root left out.
    """
    found: dict[str, str] = {}
    queue: list[tuple[str, frozenset[str]]] = [(canonicalize_name(root), frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        name, wanted = item = queue.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.stderr.write(f"not installed, so not pinned: {name}\n")
            continue
        found[name] = Version(package.version).public
        for line in package.requires or []:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                queue.append((canonicalize_name(need.name), frozenset(need.extras)))
    found.pop(canonicalize_name(root))
    return found


if __name__ == "__main__":
    pins = closure("mlff_calc", EXTRAS)
    sys.stdout.write(HEADER + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)))
