"""Settings of the site."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

project = "mlff_calc"
author = "The mlff_calc developers"
copyright = "2026, the mlff_calc developers"
release = installed_version("mlff_calc")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mlff_calc {release}"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "code"  # single backticks in docstrings mean code
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
nitpicky = False

_BAR = re.compile(r"(`[^`]*`)|\|")


def escape_bars(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Keep the bars of |r| and the like in docstrings from being read as substitutions; tables and code stay."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("|"):
            lines[number] = _BAR.sub(lambda match: match[1] or r"\|", line)


def setup(app: Any) -> None:
    """Connect the hook."""
    app.connect("autodoc-process-docstring", escape_bars)
