"""Converts between `google.protobuf.Value` and JSON-like values of Python."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from google.protobuf import struct_pb2


def from_value(value: struct_pb2.Value) -> Any:
    """The value as Python has it. Whole numbers that a double keeps are ints; an unset value is None."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "struct_value":
            return {key: from_value(item) for key, item in value.struct_value.fields.items()}
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case "bool_value":
            return value.bool_value
        case _:
            return None


def to_value(value: struct_pb2.Value, output: Any) -> None:
    """Writes an output into `value`.

    Raises:
        TypeError: the output is not JSON-like.
        ValueError: the output has a whole number that a double cannot keep.
    """
    match output:
        case None:
            value.null_value = struct_pb2.NULL_VALUE
        case bool():
            value.bool_value = output
        case int() if not _is_kept(output):
            raise ValueError(
                f"an output has the number {output}, which a double cannot keep: return a string"
            )
        case int() | float():
            value.number_value = output
        case str():
            value.string_value = output
        case dict():
            value.struct_value.SetInParent()
            for key, item in output.items():
                to_value(value.struct_value.fields[key], item)
        case list() | tuple():
            value.list_value.SetInParent()
            for item in output:
                to_value(value.list_value.values.add(), item)
        case _:
            raise TypeError(f"an output must be JSON-like, not {type(output).__name__}")


def _is_kept(number: int) -> bool:
    """Tells whether a double keeps all digits of a whole number, because `Value` knows no other numbers."""
    if abs(number) <= 2**53:
        return True
    return abs(number) < 10**300 and Decimal(repr(float(number))) == number
