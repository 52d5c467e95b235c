"""Finding the C++ compiler of this machine."""

from __future__ import annotations

import os
import shutil

from mlff_calc.errors import OptionError


def find_compiler(need: str, cure: str) -> str:
    """Return the path of the C++ compiler: `$CXX`, or the first one found of g++, clang++ and c++.

    Args:
        need: purpose of the compiler, as the start of a sentence.
        cure: advice where there is none, as the end of the sentence.

    Raises:
        OptionError: there is no compiler.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise OptionError(f"{need} and found none ({', '.join(names)}); {cure}")
