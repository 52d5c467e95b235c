"""HTML pages that open offline: one look for all of them."""

from __future__ import annotations

import html

STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --page: #ffffff; --line: #d9dde2; --dim: #5b6570;
  --good: #1f7a4d; --bad: #b3261e; --mark: #2f6fb3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --page: #15181b; --line: #363c43; --dim: #a0a9b3; --good: #5cc994; --bad: #ff8a80;
    --mark: #7db4ee; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.state { margin-top: 0; } .good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 500; color: var(--dim); width: 45%; } td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
footer { margin-top: 2rem; color: var(--dim); font-size: .85rem; }
"""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS that comes after that of all pages.
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>\n'
        f"<body>{body}</body></html>\n"
    )
