"""What frozen settings share: files must match them strictly, and whole numbers are checked where they are built."""

STRICT = {"extra": "forbid", "strict": True}
"""Their `__pydantic_config__`: nothing unknown, nothing converted."""


def check_whole(settings: object, **bounds: tuple[int, int]) -> None:
    """Raise `ValueError` unless these fields are whole numbers within their bounds, both included."""
    for name, (least, most) in bounds.items():
        value = getattr(settings, name)
        if not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}; expected a whole number from {least} to {most}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; expected {least} to {most}")
