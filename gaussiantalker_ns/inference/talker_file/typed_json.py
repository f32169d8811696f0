"""Dataclasses as JSON and back: every value is checked against its annotation."""

import dataclasses
import json
import math
import types
import typing
from typing import Any, Literal, TypeVar

LONGEST_TEXT = 4000
"""Characters of a text."""

MOST_ITEMS = 64
"""Items of a list or a table."""

BUILDER = "_target"
"""The field of a configuration that names a class; it is code, and never in a file."""

Made = TypeVar("Made")


class Mismatch(ValueError):
    """A value is not what its annotation says; the message goes on after the file's name."""


def as_json(value: Any) -> Any:
    """What `json.dumps` takes, of dataclasses, tuples and plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.name != BUILDER]
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value


def parse(text: bytes | memoryview) -> Any:
    """Parse JSON strictly.

    Raises:
        Mismatch: It is none.
    """

    def refuse(name: str) -> Any:
        raise Mismatch(f"has the number {name}")

    try:
        return json.loads(bytes(text).decode("utf-8"), parse_constant=refuse)
    except Mismatch:
        raise
    # A deep nest of lists ends in a RecursionError, a number of many digits in a ValueError.
    except (ValueError, RecursionError) as error:
        raise Mismatch("is no JSON") from error


def from_json(kind: type[Made], value: Any, where: str) -> Made:
    """Build a dataclass from parsed JSON.

    Args:
        kind: The class; fields that are missing get its defaults.
        value: The parsed JSON.
        where: Name of the value, for messages.

    Raises:
        Mismatch: A field is unknown or missing, or has a value of another kind.
    """
    if not isinstance(value, dict):
        raise Mismatch(f"has {where} = {shown(value)}, not an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != BUILDER}  # pyright: ignore[reportArgumentType]
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise Mismatch(f"has {where}.{unknown[0][:60]}, which this version does not know")
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in value]
    if missing:
        raise Mismatch(f"has no {where}.{missing[0]}")
    found = {name: item_of(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**found)
    except Mismatch:
        raise
    # The configurations of the network check themselves.
    except ValueError as error:
        raise Mismatch(f"has a {where} that cannot be used ({error})") from error


def item_of(kind: Any, value: Any, where: str) -> Any:
    """A value of an annotated kind.

    Raises:
        Mismatch: It is of another kind.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast(type, kind), value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (present,) = [argument for argument in arguments if argument is not type(None)]
        return item_of(present, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise Mismatch(f"has {where} = {shown(value)}, not one of {list(arguments)}")
        return value
    if origin is tuple:
        return tuple_of(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict) or len(value) > MOST_ITEMS:
            raise Mismatch(f"has {where} = {shown(value)}, not a small object")
        return {
            plain(str, key, where): item_of(arguments[1], item, where)
            for key, item in value.items()
        }
    return plain(kind, value, where)


def tuple_of(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A tuple of fixed or of any length, from a list."""
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        raise Mismatch(f"has {where} = {shown(value)}, not a short list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise Mismatch(f"has {len(value)} items in {where}, not {len(kinds)}")
    return tuple(item_of(kind, item, where) for kind, item in zip(kinds, value))


def plain(kind: Any, value: Any, where: str) -> Any:
    """A truth value, number or text."""
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, int | float) and not isinstance(value, bool),
        str: isinstance(value, str) and len(value) <= LONGEST_TEXT,
    }
    if not fits.get(kind, False):
        raise Mismatch(f"has {where} = {shown(value)}, not {kind.__name__}")
    if kind is not float:
        return value
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Mismatch(f"has {where} = {shown(value)}, which is no finite number")
    return number


def shown(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value) if isinstance(value, str | float | bool | None) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
