"""Reads what the saga hands to a step, and refuses what makes no sense before anything is done with it."""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value

from order_fulfilment.guard import Refused


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of one thing. A SKU is the shop's name for a thing in stock."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Input:
    """The fields of a step's input; each reader raises `Refused` with INVALID_ARGUMENT."""

    fields: dict[str, Any]

    @classmethod
    def of(cls, value: Value) -> "Input":
        fields = MessageToDict(value)
        if not isinstance(fields, dict):
            raise _invalid("the input must be an object")
        return cls(fields)

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str) or not value or "\0" in value:
            raise _invalid(f"{name} must be a text")
        return value

    def count(self, name: str) -> int:
        """A positive whole number; in JSON every number is a double."""
        value = self.fields.get(name)
        if not isinstance(value, float | int) or isinstance(value, bool):
            raise _invalid(f"{name} must be a number")
        if not 0 < value < 2**31 or value != int(value):
            raise _invalid(f"{name} must be a positive whole number")
        return int(value)

    def lines(self) -> list[Line]:
        """Of an order, sorted by SKU, so that two orders lock the same things in the same order."""
        lines = self.fields.get("lines")
        if not isinstance(lines, list) or not lines or not all(isinstance(line, dict) for line in lines):
            raise _invalid("lines must be a list of objects with sku and quantity")
        fields = [Input(line) for line in lines]
        read = [Line(line.text("sku"), line.count("quantity")) for line in fields]
        return sorted(read, key=lambda line: line.sku)


def _invalid(message: str) -> Refused:
    return Refused(message, grpc.StatusCode.INVALID_ARGUMENT)
