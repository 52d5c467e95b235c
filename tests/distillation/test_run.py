"""Runs from recipe to potential: what they write, what stops them, and teachers that cannot teach."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlff_calc import MLFFCalculator, load_potential, run_md
from mlff_calc.calculators import DomainWarning
from mlff_calc.distillation import Distillation, Distilled, Teacher
from mlff_calc.distillation.frames import STUDENT_FORCES
from mlff_calc.distillation.labels import read_labels
from mlff_calc.distillation.plan import planned
from mlff_calc.distillation.recipe import parse_distillation
from mlff_calc.distillation.rounds import Rounds
from mlff_calc.distillation.state import State
from mlff_calc.errors import OptionError, RecipeError, SimulationError
from mlff_calc.networks.files import read_header

from .conftest import copy_toys, small, tetrahedron

Toy = Callable[..., Teacher]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Distilled, list[str]]:
    """A run with a committee, and its lines."""
    import contextlib

    folder, lines = tmp_path_factory.mktemp("done"), list[str]()
    copy_toys(folder)
    recipe = small(
        student={"committee": 2}, budget={"labels": 60, "rounds": 2}, explore={"temperatures": [300.0, 500.0], "replicas": 4}
    )
    with contextlib.chdir(folder):
        return Distillation(recipe, folder / "run", on_line=lines.append).run(), lines


def test_a_run_ends_with_a_potential_that_knows_its_threshold(done: tuple[Distilled, list[str]]) -> None:
    result, lines = done
    about = read_header(result.potential)["provenance"]["distillation"]
    assert about["threshold"] == result.threshold > 0.0
    assert about["teacher"] == "toy_teacher:calculator"
    card = (result.potential / "card.md").read_text()
    for words in ("The teacher's own errors come on top", "--domain stop", "licence", "by element"):
        assert words in card
    atoms = tetrahedron(2.6)
    atoms.calc = MLFFCalculator(result.potential, domain="off")
    assert np.isfinite(atoms.get_potential_energy())
    assert atoms.calc.get_property("forces_std", atoms).shape == (4, 3)
    assert lines[0].startswith("A label takes")
    assert [line.split(":")[0] for line in lines[1:4]] == ["round 0", "round 1", "round 2"]
    assert str(result.potential) in result.summary()


def test_the_result_warns_and_stops_at_its_threshold(done: tuple[Distilled, list[str]], toys: Path) -> None:
    result = done[0]
    potential = load_potential(result.potential)
    assert potential.domain is not None
    assert potential.domain["forces_std"] == pytest.approx(result.threshold)
    potential.domain = {**potential.domain, "forces_std": 1e-9}
    with pytest.warns(DomainWarning, match="was calibrated to be trusted up to 1e-09"):
        MLFFCalculator(potential).evaluate(tetrahedron(2.6))
    folder = potential.save(toys / "strict")
    with pytest.raises(SimulationError, match="spread of the force on atom"):
        run_md(
            tetrahedron(2.6), folder, output=toys / "md", ensemble="nve", temperature=1.0, steps=1, domain="stop"
        )


def test_labels_say_where_they_come_from(done: tuple[Distilled, list[str]]) -> None:
    folder = done[0].folder
    frames = [frame for number in range(3) for frame in read_labels(folder / "labels" / f"round-{number:03d}.extxyz")]
    assert done[0].labels == len(frames) <= 60
    parts = [frame.info["part"] for frame in frames]
    assert set(parts) == {"train", "held_out", "audit"}
    later = [frame for frame in frames if frame.info["round"]]
    assert all(frame.info["made"].startswith("trajectory") and frame.info["bound"] > 0.0 for frame in later)
    assert {frame.info["made"].split(" at ")[1] for frame in later if frame.info["round"] == 1} == {"300 K"}
    assert {frame.info["made"].split(" at ")[1] for frame in later if frame.info["round"] == 2} == {"300 K", "500 K"}
    assert all((STUDENT_FORCES in frame.arrays) == (frame.info["part"] == "audit") for frame in later)
    learned = read_labels(folder / "students" / "final-data" / "train.extxyz")
    learned += read_labels(folder / "students" / "final-data" / "valid.extxyz")
    assert {frame.info["part"] for frame in learned} == {"train"}
    assert len(learned) == parts.count("train")


def test_the_page_has_every_part(done: tuple[Distilled, list[str]]) -> None:
    page = (done[0].folder / "report.html").read_text()
    parts = ("Rounds", "Errors of the potential", "Every label was made", "Where the time went", "<svg", "the spread")
    for words in parts:
        assert words in page
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len([ElementTree.fromstring(drawing) for drawing in drawings]) == 2
    seconds = State.read(done[0].folder).plain["seconds"]
    assert set(seconds) >= {"plan", "label", "train", "explore", "judge", "last training"}


def test_a_function_teaches_through_an_executor_and_failures_are_counted(toys: Path) -> None:
    """A whole run: 3 seconds."""
    from .toy_teacher import calculator

    recipe = small(budget={"labels": 50, "rounds": 0}, seed=2)
    recipe["teacher"] = {}
    with ThreadPoolExecutor(2) as executor:
        result = Distillation(
            recipe, toys / "run", teacher=lambda atoms: calculator(fault="raises", share=0.06), executor=executor
        ).run()
    assert result.failed > 0
    assert result.labels + result.failed == 50
    assert "no convergence after 9 cycles" in (toys / "run" / "report.html").read_text()
    assert f"({result.failed} frames failed" in result.summary()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("raises", "gives no label for Cu4: RuntimeError: no convergence after 9 cycles"),
        ("hangs", "no answer within 0.5 s; give a longer label.timeout"),
        ("nan", "gives no label for Cu4: forces is not finite"),
        ("shape", r"forces has the shape \(3, 3\)"),
        ("units", "its units are wrong"),
        ("hartree", "energies look like Hartree; return eV"),
        ("gradient", "forces have the sign of the gradient"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(toys: Path, fault: str, expected: str) -> None:
    recipe = small(teacher={"options": {"fault": fault}}, label={"timeout": 0.5 if fault == "hangs" else 20.0})
    with pytest.raises(OptionError, match=expected):
        Distillation(recipe, toys / "run").run()
    assert not (toys / "run").exists()


def test_a_teacher_that_fails_too_often_stops_the_run(toys: Path) -> None:
    recipe = small(teacher={"options": {"fault": "raises", "share": 0.3}}, seed=4)
    with pytest.raises(SimulationError, match=r"labels failed.*no convergence after 9 cycles.*go on with --resume"):
        Distillation(recipe, toys / "run").run()
    assert State.read(toys / "run").plain["stopped"] is None


def test_an_element_that_the_teacher_lacks_is_told(toys: Path) -> None:
    gold = tetrahedron()
    gold.symbols[0] = "Au"
    ase.io.write(toys / "two.extxyz", [tetrahedron(), gold, tetrahedron(2.6), gold])
    recipe = small(teacher={"python": "toy_teacher:knows_no_gold"}, systems={"files": ["two.extxyz"]})
    with pytest.raises(OptionError, match=r"gives no label for AuCu3: NotImplementedError: no parameters for Au"):
        Distillation(recipe, toys / "run").run()


def test_crystals_need_stresses(toys: Path) -> None:
    ase.io.write(toys / "cu.extxyz", bulk("Cu", cubic=True))
    recipe = small(systems={"files": ["cu.extxyz"]})
    with pytest.raises(OptionError, match=r"take a teacher that has them, or set label.stress: false"):
        Distillation(recipe, toys / "run").run()
    with pytest.raises(OptionError, match=r"label.stress is true, and there are structures without three periodic"):
        Distillation(small(label={"stress": True}), toys / "run").run()


@pytest.mark.slow
def test_a_crystal_is_learned_with_its_stress(toys: Path) -> None:
    ase.io.write(toys / "cu.extxyz", bulk("Cu", cubic=True))
    recipe = small(systems={"files": ["cu.extxyz"]}, budget={"labels": 50, "rounds": 1})
    recipe["teacher"] = {"name": "emt"}
    Distillation(recipe, toys / "run").run()
    frames = ase.io.read(toys / "run" / "labels" / "round-000.extxyz", ":")
    assert len({round(frame.cell.volume, 3) for frame in frames}) > 2
    learned = ase.io.read(toys / "run" / "students" / "final-data" / "train.extxyz", ":")
    for frame, other in ((frames[0], learned[0]), (frames[1], learned[1])):
        copy = frame.copy()
        copy.calc = EMT()
        assert np.allclose(frame.get_stress(), copy.get_stress(), atol=1e-10)
        assert np.allclose(other.get_stress(), copy.get_stress(), atol=1e-10)
    assert "| stress" in (toys / "run" / "potential" / "card.md").read_text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"budget": {"labels": 49}}, "a potential needs at least 50 labels"),
        ({"budget": {}}, "there is no budget; give `minutes` or `labels`"),
        ({"systems": {}}, "there are no structures; give `files` or `smiles`"),
        ({"systems": {"files": ["cu4.xyz"], "rattle": [0.0]}}, "give numbers greater than 0"),
        ({"teacher": {"name": "emt", "python": "a:b"}}, "both `name` and `python` are given"),
        ({"teacher": {"python": "calculator"}}, "write module:function"),
        ({"student": {"optimizer": {"max_epochs": 3}}}, "the budget is that of section `budget`"),
        ({"student": {"trainer": {"seed": 3}}}, "students differ by their seeds"),
        ({"student": {"potential": {"backbone": {"chanels": 3}}}}, "student: potential.backbone.*did you mean 'channels'"),
        ({"explore": {"temperatures": [0.0]}}, "give temperatures greater than 0"),
        ({"explore": {"stepps": 3}}, "did you mean 'steps'"),
    ],
)
def test_wrong_recipes_are_told(toys: Path, change: dict[str, Any], expected: str) -> None:
    recipe = small() | change
    with pytest.raises(RecipeError, match=expected):
        Distillation(recipe, toys / "run")


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        ({"files": ["nowhere.xyz"]}, "nowhere.xyz"),
        ({"files": ["broken.xyz", "cu4.xyz"]}, "broken.xyz cannot be read"),
        ({"files": ["same.xyz"]}, "two atoms are at the same place"),
        ({"smiles": ["CCO", "C(", "CC.O", "[CH3]"]}, r"SMILES 'C\(': unread.*SMILES '\[CH3\]': radical"),
        ({"smiles": ["[U]"]}, "SMILES '.U.'"),
    ],
)
def test_structures_that_cannot_be_used_are_told(toys: Path, systems: dict[str, Any], expected: str) -> None:
    pytest.importorskip("rdkit")
    (toys / "broken.xyz").write_text("3\n\nCu 0 0\n")
    ase.io.write(toys / "same.xyz", Atoms("Cu2"))
    recipe = small()
    recipe["systems"] = systems
    with pytest.raises(RecipeError, match=expected):
        Distillation(recipe, toys / "run").run()


def test_a_budget_for_fewer_than_fifty_labels_is_refused(toys: Path) -> None:
    recipe = small(budget={"minutes": 1e-4})
    with pytest.raises(OptionError, match=r"the budget of 0.0001 minutes is too small.*give more than"):
        Distillation(recipe, toys / "run").run()
    assert not (toys / "run").exists()


def test_a_budget_for_fewer_than_two_labels_of_each_system_is_refused(toys: Path) -> None:
    ase.io.write(toys / "many.extxyz", [Atoms(f"Cu{n}", [[2.5 * k, 0.0, 0.0] for k in range(n)]) for n in range(2, 32)])
    recipe = small(systems={"files": ["many.extxyz"]})
    with pytest.raises(OptionError, match="there are 30 systems, two labels of each are the least, and 50 labels fit"):
        Distillation(recipe, toys / "run").run()
    assert not (toys / "run").exists()


def test_charges_of_one_composition_are_refused(toys: Path) -> None:
    ion = tetrahedron()
    ion.info["charge"] = 1
    ase.io.write(toys / "ion.extxyz", [tetrahedron(), ion])
    with pytest.raises(RecipeError, match="Cu4 is given with the charges 0, 1, which students cannot tell apart"):
        Distillation(small(systems={"files": ["ion.extxyz"]}), toys / "run").run()


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_labelled(toys: Path) -> None:
    recipe = small(teacher={"options": {"log": str(toys / "calls")}})
    with pytest.raises(OptionError, match=r"run cannot be made, as .*cu4.xyz cannot be written to; give another output"):
        Distillation(recipe, toys / "cu4.xyz" / "run").run()
    assert not (toys / "calls").exists()


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({"workers": 2}, "label.workers is 2, and a teacher that is a function"),
        ({"retries": [{"a": 1}]}, "label.retries are options of a teacher by name"),
    ],
)
def test_options_that_a_function_cannot_honour_are_refused(toys: Path, label: dict[str, Any], expected: str) -> None:
    recipe = small(label=label)
    recipe["teacher"] = {}
    with pytest.raises(OptionError, match=expected):
        Distillation(recipe, toys / "run", teacher=lambda atoms: EMT()).run()


def test_a_function_that_hangs_is_not_waited_for(toys: Path) -> None:
    goes_on = threading.Event()

    def hangs(atoms: Atoms) -> Any:
        goes_on.wait(60.0)
        return EMT()

    recipe = small(label={"timeout": 0.1})
    recipe["teacher"] = {}
    began = time.monotonic()
    with pytest.raises(OptionError, match=r"no answer within 0\.1 s"):
        Distillation(recipe, toys / "run", teacher=hangs).run()
    assert time.monotonic() - began < 50.0
    goes_on.set()


def test_a_teacher_is_given_once(toys: Path, toy: Toy) -> None:
    with pytest.raises(OptionError, match="and another one is given; keep one"):
        Distillation(small(), toys / "run", teacher=toy()).run()
    recipe = small()
    recipe["teacher"] = {}
    with pytest.raises(OptionError, match="there is no teacher"):
        Distillation(recipe, toys / "run").run()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([(0.1, 90), (0.01, 90), (0.01, 90)], None),  # the audit of round 1 comes from cool trajectories
        ([(0.1, 90), (0.01, 90), (0.01, 90), (0.01, 90)], "below 0.03 eV/Angstrom in two rounds"),
        ([(0.1, 90), (0.1, 90), (0.1, 90), (0.01, 90)], None),
        ([(0.1, 0), (0.1, 0)], None),
        ([(0.1, 90), (0.1, 0), (0.1, 0)], "fewer than 1.0% of the frames were candidates in two rounds"),
        ([(0.1, 90)] * 6, "5 rounds are done"),
    ],
)
def test_when_the_rounds_end(toys: Path, entries: list[tuple[float, int]], expected: str | None) -> None:
    plan = planned(parse_distillation(small(budget={"labels": 500, "rounds": 5}), toys / "recipe"), 0.01, 0.01, 0.01)
    rounds = [
        {"round": k, "labels": 60, "audit": {"forces": error if k else None}, "frames": 1000, "candidates": candidates}
        for k, (error, candidates) in enumerate(entries)
    ]
    plain = {"plan": plan.plain(), "rounds": rounds[:-1], "limit": None, "seconds": {}, "minutes": None}
    recipe = parse_distillation(small(), toys / "recipe")
    run = Rounds(recipe, toys, State(toys / "state.json", plain), [], None, None, [], on_line=print, on_bar=print)
    found = run._stop_before(len(entries) - 1, rounds[-1]) or run._stop_after(rounds[-1], [tetrahedron()])
    assert (found is None) == (expected is None)
    assert expected is None or expected in found


@pytest.mark.slow
def test_copper_of_emt_is_learned_in_three_minutes(tmp_path: Path) -> None:
    """A real run by the clock."""
    from ase.cluster import Octahedron

    ase.io.write(tmp_path / "cu13.xyz", Octahedron("Cu", 3, cutoff=1))
    recipe = small(systems={"files": [str(tmp_path / "cu13.xyz")]}, budget={"minutes": 3.0, "labels": 600})
    recipe["teacher"] = {"name": "emt"}
    recipe["student"] = {"committee": 2, "potential": {"backbone": {"l_max": 1, "channels": 16, "n_layers": 1}}}
    recipe["explore"] = {"replicas": 6, "steps": 200, "timestep": 2.0, "reactive": True, "temperatures": [300.0, 600.0]}
    result = Distillation(recipe, tmp_path / "run").run()
    assert result.audit < 0.05
