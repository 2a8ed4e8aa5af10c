"""Shared by the frozen settings: strict reading from files, and a check of whole numbers."""

STRICT = {"extra": "forbid", "strict": True}
"""The `__pydantic_config__` of settings: unknown keys are refused, and no type is converted."""


def check_whole(settings: object, **bounds: tuple[int, int]) -> None:
    """Raise `ValueError` unless these fields are whole numbers within their bounds, both included."""
    for name, (least, most) in bounds.items():
        value = getattr(settings, name)
        if not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}; expected a whole number from {least} to {most}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; expected {least} to {most}")
