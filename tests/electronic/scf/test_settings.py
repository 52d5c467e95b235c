"""Levels of SCFs: equality, plain values, and names that PySCF does not know or that mean two things."""

from __future__ import annotations

import pytest

from mlff_calc.electronic.scf.settings import B3LYP_NOTE, SCFSettings
from mlff_calc.errors import OptionError


def test_settings_are_equal_if_they_give_the_same_matrix() -> None:
    one = SCFSettings(" B3LYP ", "def2-SVP")
    assert one == SCFSettings("b3lypg", "def2svp", max_cycle=7)
    assert hash(one) == hash(SCFSettings("b3lypg", "def2svp"))
    assert SCFSettings("hf", "sto-3g", 0) == SCFSettings("rhf", "STO-3G", 5)  # no grid
    for other in (
        SCFSettings("b3lyp5", "def2-svp"), SCFSettings("b3lyp", "sto-3g"), SCFSettings("b3lyp", "def2-svp", 2),
        SCFSettings("b3lyp", "def2-svp", conv_tol=1e-8), SCFSettings("b3lyp", "def2-svp", density_fit=True),
    ):  # fmt: skip
        assert one != other
        assert len(one.differences(other)) == 1


def test_settings_survive_as_plain_values() -> None:
    settings = SCFSettings("pbe", "6-31G(d,p)", 1, 1e-10, True, 30)
    assert SCFSettings.from_dict(settings.to_dict()) == settings
    assert SCFSettings.from_dict(settings.to_dict()).max_cycle == 30
    with pytest.raises(OptionError, match=r"grid_levle.*did you mean 'grid_level'"):
        SCFSettings.from_dict(settings.to_dict() | {"grid_levle": 3})
    with pytest.raises(OptionError, match="lack basis"):
        SCFSettings.from_dict({"xc": "pbe"})


@pytest.mark.parametrize(
    "wrong",
    [{"xc": ""}, {"basis": 3}, {"grid_level": 10}, {"grid_level": True}, {"conv_tol": 0.0}, {"conv_tol": float("nan")},
     {"density_fit": 1}, {"max_cycle": 0}],
)  # fmt: skip
def test_values_out_of_range_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        SCFSettings.from_dict({"xc": "pbe", "basis": "sto-3g"} | wrong)


@pytest.mark.electronic
@pytest.mark.parametrize(
    ("xc", "basis", "numbers", "message"),
    [
        ("b3lpy", "sto-3g", [1], r"unknown functional 'b3lpy'; did you mean 'b3lyp'\?"),
        ("0.5", "sto-3g", [1], "unknown functional '0.5'"),
        ("b3lyp-d3bj", "sto-3g", [1], "dispersion correction"),
        ("pbe", "def2-svpp", [1], r"unknown basis 'def2-svpp'; did you mean 'def2-svp'\?"),
        ("pbe", "def2-svp-jkfit", [1], "unknown basis"),
        ("pbe", "/etc/passwd", [1], "unknown basis"),
        ("pbe", "sto-3g", [1, 92], "no orbitals for U"),
        ("pbe", "def2-svp", [1, 53], "effective core potential for I"),
        ("pbe", "lanl2dz", [26], "effective core potential for Fe"),
    ],
)
def test_what_pyscf_does_not_know_is_one_clear_error(xc: str, basis: str, numbers: list[int], message: str) -> None:
    pytest.importorskip("pyscf")
    with pytest.raises(OptionError, match=message):
        SCFSettings(xc, basis).check(numbers)


@pytest.mark.electronic
def test_known_names_pass() -> None:
    pytest.importorskip("pyscf")
    for xc, basis in (("b3lyp5", "def2-SVP"), ("hf", "6-31G(d,p)"), ("lda,vwn", "cc-pvdz"), ("r2scan", "6-31+G*")):
        SCFSettings(xc, basis).check([1, 6, 8])


def test_the_trap_of_b3lyp_is_told() -> None:
    assert "b3lyp5" in B3LYP_NOTE
    assert "QH9" in B3LYP_NOTE
