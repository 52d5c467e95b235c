"""Registry of the parts of networks that configurations name, with their options and construction from plain dicts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, Generic, TypeVar

from mlff_calc.bounded import shorten
from mlff_calc.errors import RecipeError
from mlff_calc.near import suggestion

P = TypeVar("P")


class Registry(Generic[P]):
    """Classes of one kind of part, by name. Their options are the keyword arguments of their constructors.

    Args:
        noun: Name of the kind, for messages.
        given: Constructor argument that the network provides, which is not an option.
        default: Name of the part for configurations without a name; None where a name is required.
        largest: Upper bounds of options, by name.
        check: Function from name and all options to faults of their combination, by option.
    """

    def __init__(
        self,
        noun: str,
        given: str,
        *,
        default: str | None = None,
        largest: Mapping[str, float] | None = None,
        check: Callable[[str, dict[str, Any]], dict[str, str]] | None = None,
    ) -> None:
        self.parts: dict[str, type[P]] = {}
        self._noun, self._given, self._default = noun, given, default
        self._largest, self._check = largest or {}, check

    def register(self, name: str) -> Callable[[type[P]], type[P]]:
        """Class decorator that makes a part available to configurations as `name`."""

        def register(part: type[P]) -> type[P]:
            self.parts[name] = part
            return part

        return register

    def names(self) -> list[str]:
        """Names of the registered parts, sorted."""
        return sorted(self.parts)

    def part(self, name: str) -> type[P]:
        """Return the class of a registered part.

        Raises:
            RecipeError: There is no part of that name.
        """
        if not isinstance(name, str) or name not in self.parts:
            hint = suggestion(name, self.parts, before="; ")
            raise RecipeError(f"unknown {self._noun} {name!r}; available: {', '.join(self.names())}{hint}")
        return self.parts[name]

    def options(self, name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the options of a registered part with their defaults (`inspect.Parameter.empty` where there is none).

        A part whose constructor takes `**options` tells them by `further_options(given)`, and what they depend on, in words,
        by `detail(given)`.

        Args:
            name: Name of the part.
            given: Options that decide which further ones there are; None for all that there may be.

        Raises:
            RecipeError: There is no part of that name.
        """
        part: Any = self.part(name)
        own = {
            key: parameter.default
            for key, parameter in inspect.signature(part).parameters.items()
            if key != self._given and parameter.kind is not parameter.VAR_KEYWORD
        }
        return own | part.further_options(given) if hasattr(part, "further_options") else own

    def findings(self, options: dict[str, Any]) -> dict[str, str]:
        """Return the faults in names and types of a part's options, by option; see `option_findings`.

        Raises:
            RecipeError: There is no part of that name.
        """
        name, known = self._defaults_of(options)
        own = {key: value for key, value in options.items() if key != "name"}
        detail = getattr(self.part(name), "detail", lambda given: "")(options)
        findings = option_findings(own, known, f"{self._noun} {name!r}{detail}", self._largest)
        return findings or (self._check(name, known | own) if self._check is not None else {})

    def resolve(self, options: dict[str, Any]) -> dict[str, Any]:
        """Check the names and types of a part's options, and fill in every default.

        Numbers are returned as plain `int` and `float`, so that the result can be saved. Ranges are checked by the
        part.

        Args:
            options: `name` and options of the part.

        Returns:
            `name` and every option of that part, in the order of its signature.

        Raises:
            RecipeError: A name or option is unknown, or a value has the wrong type, is NaN or infinite; the message
                names option, value and what is expected.
        """
        name, known = self._defaults_of(options)
        findings = self.findings(options)
        if findings:
            raise RecipeError("\n".join(findings.values()))
        return {"name": name} | with_defaults(options, known)

    def build(self, options: dict[str, Any], **given: Any) -> P:  # noqa: ANN401
        """Build the part `options["name"]` with the other entries of `options` as its options.

        Raises:
            RecipeError: A value is out of range; see also `resolve`.
        """
        options = self.resolve(options)
        return self.parts[options.pop("name")](**given, **options)

    def _defaults_of(self, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return name and defaults of the part that the options belong to."""
        if not isinstance(options, dict) or (self._default is None and "name" not in options):
            example = self._default or self.names()[0]
            raise RecipeError(f"{self._noun} is {options!r}; give its name and options, e.g. {{name: {example}}}")
        name: Any = options.get("name", self._default)
        return name, self.options(name, options)


def check_ranges(options: Mapping[str, Any], of: str, least: Mapping[str, float], positive: Iterable[str]) -> None:
    """Check that numbers are large enough.

    Args:
        options: All options, with defaults.
        of: What they are options of.
        least: Smallest values by option.
        positive: Options that are above zero.

    Raises:
        RecipeError: One is too small, or NaN.
    """
    for key, smallest in least.items():
        if not options[key] >= smallest:
            raise RecipeError(f"{key} of {of} is {options[key]}; give at least {smallest}")
    for key in positive:
        if not options[key] > 0.0:
            raise RecipeError(f"{key} of {of} is {options[key]}; give a positive number")


def option_findings(
    options: Mapping[str, Any], known: Mapping[str, Any], of: str, largest: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Return the faults in names and types of options, by option; empty where there are none.

    The type of an option is that of its default. Whole numbers are accepted where a number is expected. Nothing else is
    converted: `true` is not 1, `"8"` is not 8, and 8.5 is not 8.

    Args:
        options: Options as given.
        known: Defaults of all options (`inspect.Parameter.empty` where there is none).
        of: Owner of the options, in words.
        largest: Upper bounds of options, by their names.
    """
    findings: dict[str, str] = {}
    for key, value in options.items():
        if key not in known:
            hint = suggestion(key, known, before="; ") or f"; valid options: {', '.join(known)}"
            findings[key] = f"unknown option {key!r} of {of}{hint}"
            continue
        try:
            _as_type_of(known[key], value)
            if largest and key in largest and value > largest[key]:
                raise ValueError(f"it must be at most {largest[key]:g}")
        except ValueError as error:
            findings[key] = f"{key} of {of} is {shorten(value)}; {error}"
    for key in known.keys() - options.keys():
        if known[key] is inspect.Parameter.empty:
            findings[key] = f"{key} of {of} is missing; it has no default, give it"
    return findings


def with_defaults(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return every known option as a plain value of the type of its default, in the order of `known`."""
    return {key: _as_type_of(default, options.get(key, default)) for key, default in known.items()}


def _as_type_of(default: Any, value: Any) -> Any:  # noqa: ANN401 - an option may be of any type
    """Convert `value` to a plain value of the type of `default`.

    Raises:
        ValueError: It is not of that type, or not finite; the message says what is expected.
    """
    if default is None or default is inspect.Parameter.empty:
        return value
    is_switch = isinstance(value, bool)
    if isinstance(default, bool):
        if is_switch:
            return value
        raise ValueError("give true or false")
    if isinstance(default, int):
        if isinstance(value, Integral) and not is_switch:
            return int(value)
        raise ValueError(f"give a whole number, such as {default}")
    if isinstance(default, float):
        with suppress(OverflowError):  # a whole number beyond every float
            if isinstance(value, Real) and not is_switch and math.isfinite(value):
                return float(value)
        raise ValueError(f"give a finite number, such as {default:g}")
    if not isinstance(value, type(default)):
        raise ValueError(f"give a value of type {type(default).__name__}, such as {default!r}")
    return value
