"""Shared by the frozen settings and by arguments: strict reading from files, and checks of names and numbers."""

import operator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, SupportsIndex

STRICT = {"extra": "forbid", "strict": True}
"""The `__pydantic_config__` of settings: unknown keys are refused, and no type is converted."""


def check_names(names: Sequence[str], called: str) -> tuple[str, ...]:
    """The names as a tuple. Raises `ValueError` unless the argument `called` so has printable names, each once."""
    if isinstance(names, str):
        raise ValueError(f"{called} is {names!r}; expected a tuple of names, such as ({names!r},)")
    for name in names:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ValueError(f"{called} has the name {name!r}; expected printable names")
    if len(set(names)) < len(names):
        raise ValueError(f"{called} names one twice; expected each once")
    return tuple(names)


def plain_numbers(settings: Any) -> None:
    """Turn numbers of NumPy and tensors of one number, in fields of frozen settings, into Python's."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            object.__setattr__(settings, field.name, value.item())


def whole_number(name: str, value: object, least: int) -> int:
    """The argument `name` as an int, even one of NumPy's; `ValueError` unless it is whole, at least `least`."""
    with suppress(TypeError):
        if isinstance(value, SupportsIndex) and operator.index(value) >= least:
            return operator.index(value)
    raise ValueError(f"{name} is {value!r}; expected at least {least}, a whole number")


def check_whole(settings: object, **bounds: tuple[int, int]) -> None:
    """Raise `ValueError` unless these fields are whole numbers within their bounds, both included."""
    plain_numbers(settings)
    for name, (least, most) in bounds.items():
        value = getattr(settings, name)
        if not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}; expected a whole number from {least} to {most}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; expected {least} to {most}")
