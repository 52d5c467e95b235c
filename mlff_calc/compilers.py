"""Which C++ compiler this machine has."""

from __future__ import annotations

import os
import shutil

from mlff_calc.errors import OptionError


def find_compiler(need: str, cure: str) -> str:
    """Path of the C++ compiler: `$CXX`, or the first one found of g++, clang++ and c++.

    Args:
        need: what needs it, as the start of a sentence.
        cure: what to do without one, as the end of it.

    Raises:
        OptionError: there is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise OptionError(f"{need} and found none ({', '.join(names)}); {cure}")
