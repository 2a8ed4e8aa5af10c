"""Shared by the frozen settings: strict reading from files, and checks of names and whole numbers."""

from collections.abc import Sequence

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


def check_whole(settings: object, **bounds: tuple[int, int]) -> None:
    """Raise `ValueError` unless these fields are whole numbers within their bounds, both included."""
    for name, (least, most) in bounds.items():
        value = getattr(settings, name)
        if not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}; expected a whole number from {least} to {most}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; expected {least} to {most}")
