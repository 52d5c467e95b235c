"""Run the tutorials: every block of Python, shell and file content in them, top to bottom, each page in a folder of its own.

As many pages run at a time as there are cores; what a page prints appears when it has ended.

    python docs/run_tutorials.py [PAGE ...]

A `python` block runs in the page's own namespace, a `bash` block with `mlff` on the path, and a `yaml` block that starts
with `# file: NAME` is written to that file. A block right after a comment `<!-- not run: REASON -->` is left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TUTORIALS = (
    "score_models", "rollouts", "md", "predict_motion", "train_your_own", "relaxations", "getting_started", "uncertainty",
    "calculator", "properties", "pretraining", "learned_fock_matrices", "learned_functionals", "distillation",
    "fields", "organic",
)  # fmt: skip
"""Pages that are run; those that take long stand first."""
_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^>]+ -->\n+)?^```(?P<language>python|bash|yaml)\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# file: (\S+)\n")


class Block(NamedTuple):
    """One block of a page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are to be run.

    Args:
        page: a markdown file.

    Yields:
        Each block, in order.
    """
    content = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(content):
        if match["skip"] is None and (match["language"] != "yaml" or _FILE.match(match["text"])):
            yield Block(match["language"], match["text"], content.count("\n", 0, match.start("text")) + 1)


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of one page.

    Args:
        page: a markdown file.
        folder: where to run; becomes the working folder.

    Raises:
        SystemExit: a block failed; the text names the page and the line.
    """
    os.chdir(folder)
    namespace: dict[str, object] = {"__name__": "__main__"}
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    for block in blocks(page):
        try:
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
            elif block.language == "bash":
                subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], env=environment, check=True)
            else:
                Path(_FILE.match(block.text)[1]).write_text(block.text, encoding="utf-8")
        except Exception as error:
            raise SystemExit(f"{page.name}, line {block.line}: {type(error).__name__}: {error}") from error


def in_a_process(name: str) -> subprocess.CompletedProcess[str]:
    """Run one page in a process of its own."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    return subprocess.run([sys.executable, __file__, name], check=False, **pipe)


def run_all(names: Sequence[str]) -> None:
    """Run pages in processes of their own.

    Raises:
        SystemExit: pages failed.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done in pool.map(in_a_process, names):
            print(done.stdout, end="", flush=True)
            if done.returncode:
                pool.shutdown(cancel_futures=True)
                raise SystemExit(done.returncode)


def main(names: Sequence[str]) -> None:
    """Run the page named, or several, or all tutorials."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    if len(names) != 1:
        return run_all(names or TUTORIALS)
    began = time.perf_counter()
    page = HERE / f"{names[0]}.md"
    with tempfile.TemporaryDirectory(prefix=f"mlff-{names[0]}-") as folder:
        try:
            run_page(page, Path(folder))
        finally:
            os.chdir(HERE)
    print(f"{page.name}: ran in {time.perf_counter() - began:.0f} s", flush=True)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
