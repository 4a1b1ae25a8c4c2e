"""Lists, dicts, texts and numbers out of a Python literal that somebody printed into a cell; nothing is evaluated."""

from __future__ import annotations

import ast
import warnings
from typing import Any

MAX_LITERAL = 100_000
"""Characters of the longest cell that is parsed; the data set's longest has some thousands."""
MAX_DEPTH = 4
"""Brackets within brackets; the data set has two."""


class NotPlain(Exception):
    """A cell holds something else than lists, dicts, texts and numbers."""


def plain_literal(text: str) -> Any:
    """A list, dict, text or number from a Python literal; `nan` and `inf` are known. Never evaluates anything.

    Raises `NotPlain` for whatever else, for text too long or too deeply nested.
    """
    text = text.strip()
    if len(text) > MAX_LITERAL:
        raise NotPlain
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > MAX_DEPTH:
            raise NotPlain
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion of odd escapes in somebody's text
            return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise NotPlain from error


def _value(node: ast.expr) -> Any:
    match node:
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            if not all(isinstance(key, ast.Constant) for key in keys):
                raise NotPlain
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Constant(value=str() as text):
            return text
        case ast.Constant(value=bool()):
            raise NotPlain
        case ast.Constant(value=int() | float() as number):
            return float(number) if isinstance(number, float) or abs(number) > 2**53 else number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -float(number)
        case ast.Name(id="nan" | "inf" as name):
            return float(name)
    raise NotPlain
