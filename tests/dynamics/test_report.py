"""Report, plot, summary, and the table on the terminal."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from ase.build import molecule
from rich.console import Console

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions, read_log
from mlff_calc.dynamics.log import LogRow
from mlff_calc.dynamics.progress import RunProgress
from mlff_calc.dynamics.report import write_report
from mlff_calc.dynamics.summary import summarize
from mlff_calc.errors import SimulationError


@pytest.fixture
def folder(tmp_path, bonded):
    atoms = molecule("CH3CH2OH")
    atoms.calc = bonded(atoms, stiffness=0.3)
    options = RunOptions(steps=400, log_interval=4, traj_interval=40, potential="springs <1>")
    MDRun.start(atoms, tmp_path / "run", EnsembleOptions(ensemble="bussi", seed=1), options).run()
    return tmp_path / "run"


class Page(HTMLParser):
    """Parser that collects cells of tables, and links to other files."""

    def __init__(self):
        super().__init__()
        self.rows, self.sources, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "!doctype"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_the_report_needs_no_other_files_and_agrees_with_the_log(folder):
    path = write_report(folder, timing={"n_calls": 100, "n_rebuilds": 3, "model_s": 0.25})
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.open
    assert len(page.sources) == 1
    assert page.sources[0].startswith("data:image/png;base64,")
    assert "http" not in path.read_text(encoding="utf-8").replace(page.sources[0], "")
    assert "prefers-color-scheme: dark" in path.read_text(encoding="utf-8")
    cells = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert cells["ensemble"] == "bussi"
    assert cells["potential"] == "springs <1>"
    assert cells["model (ms per call)"] == "2.500"
    assert cells["rebuilds"] == "3"
    assert cells["frames in the trajectory"] == "11"
    numbers = summarize(folder / "log.csv")
    assert cells["mean temperature (K)"].startswith(f"{numbers['temperature_K']:.1f} ± ")
    png = (folder / "energies.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n")
    assert len(png) > 10_000


def test_counts_of_fixed_points_and_options_are_shown_where_they_apply(folder):
    counts = {"n_calls": 9, "n_cold": 0, "n_forward": 0, "residual": 0.0, "n_looks": 3, "n_outside": 1}
    for timing, present in ((counts, False), ({**counts, "n_forward": 7}, True)):
        text = write_report(folder, timing=timing).read_text(encoding="utf-8")
        assert ("<th>cold</th>" in text) == ("<th>residual</th>" in text) == present
        assert "<th>outside the training data, last part of the run</th><td>1 of 3 checks</td>" in text
    assert "<th>taut_fs</th>" in text  # an option of the ensemble bussi
    for idle in ("pressure_GPa", "taup_fs", "friction_per_ps", "respa"):
        assert f"<th>{idle}</th>" not in text
    assert "volume" not in text


def test_the_report_gives_the_reason_why_a_run_was_stopped(folder):
    text = write_report(folder, stopped="stopped at step 3: too <hot>").read_text(encoding="utf-8")
    assert "too &lt;hot&gt;" in text
    with pytest.raises(SimulationError):
        write_report(folder / "nowhere")


def test_the_summary_is_that_of_the_rows(folder):
    table = read_log(folder / "log.csv")
    numbers = summarize(folder / "log.csv")
    assert numbers["temperature_K"] == pytest.approx(np.mean(table["temperature_K"][20:]), rel=1e-12)
    fit = np.polyfit(table["time_ps"], table["conserved_eV"], 1)[0] * 1000 / 9
    assert numbers["drift_meV_per_atom_ps"] == pytest.approx(fit, rel=1e-6)
    assert "pressure_GPa" not in numbers
    assert numbers["ms_per_step"] > 0.0


def row(step):
    return LogRow(
        step=step, time_ps=step * 0.0005, temperature_K=300.0, potential_eV=-1.5, kinetic_eV=0.5, total_eV=-1.0,
        conserved_eV=float("nan"), drift_meV_per_atom_ps=float("nan"), pressure_GPa=float("nan"),
        volume_A3=float("nan"), ms_per_step=4.2,
    )  # fmt: skip


def show(*, terminal, npt=False):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with RunProgress(console, title="ethanol", start=0, steps=100, npt=npt) as progress:
        for step in range(0, 101, 10):
            progress(row(step))
    return out.getvalue()


def test_lines_where_there_is_no_terminal():
    lines = show(terminal=False).splitlines()
    assert "\x1b" not in "".join(lines)
    assert lines[0] == "ethanol"
    assert [line.split()[0] for line in lines[1:]] == ["step", "0", "100"]  # the first row at once, and the last at the end
    assert lines[-1].split()[1:] == ["0.050", "300.0", "-1.5000", "0.5000", "-1.0000", "-", "4.20"]


def test_pressure_and_volume_are_shown_under_npt():
    columns = [show(terminal=False, npt=npt).splitlines()[1].split() for npt in (False, True)]
    assert columns[1] == [*columns[0][:-1], "p/GPa", "V/Å³", columns[0][-1]]


def test_a_table_with_a_bar_on_a_terminal():
    shown = show(terminal=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    for word in ("step", "t/ps", "T/K", "E_pot/eV", "E_kin/eV", "E_tot/eV", "drift", "ms/step", "100/100", "left"):
        assert word in plain
