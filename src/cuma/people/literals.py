"""Lists and objects that a text writes out, as JSON or as Python prints them, and texts kept as bytes.

Tables that went through a CSV hold them: `{'country': 'Peru'}`, `[{"role": "user", …}]`, `b'Peru'`. They are parsed,
never run. What begins like one and cannot be read whole raises `NotPlain`: it is no text about anybody either.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from typing import Any

MAX_LITERAL = 400_000
"""Characters of the longest text that is parsed as Python's; longer ones are refused."""
_WRITTEN = re.compile(
    r"\s*\"?\s*(?:[\[({]\s*)+[bru]{0,2}\\?['\"]"  # {'…  [{"…  [b'…
    r"|\s*(?:np\.|numpy\.)?(?:array|dict|list|OrderedDict|defaultdict|Counter)\([\[({<]"
)
_BYTES = re.compile(r"b(['\"]).*\1", re.DOTALL)
_NEIGHBOURS = re.compile(r"['\"]\s*[bruBRU]{0,2}['\"]")
_NUMPY = frozenset(
    {"array", "str_", "bool_", *(f"{kind}{bits}" for kind in ("int", "float") for bits in (8, 16, 32, 64))}
)
"""NumPy's wrappings of a value in its printed form: `np.float64(0.5)`, `array([…], dtype=object)`."""


class NotPlain(Exception):
    """A text holds something else than lists, objects, texts, numbers, true, false and none of them."""


class Repeated(dict[str, Any]):
    """A JSON object in which a name stands twice, at any depth: one of the two values is lost."""


def structure(text: str) -> list[Any] | dict[Any, Any] | None:
    """The list or object that a text writes out; None: it is a text like any other.

    Raises `NotPlain` for one that is cut off, elided, too long, names something twice or holds objects of other kinds.
    """
    if not (begins_one := is_written(text)) and text.lstrip()[:1] not in ("{", "["):
        return None
    for read in (plain_json, plain_literal):
        try:
            value = read(text)
        except NotPlain:
            continue
        if isinstance(value, str):  # JSON of JSON
            return structure(value)
        return value if isinstance(value, list | dict) else None
    if begins_one:
        raise NotPlain
    return None


def is_written(text: str) -> bool:
    """Whether a text begins as printed lists, objects or bytes do, and as sentences do not."""
    return bool(_WRITTEN.match(text)) or bool(_BYTES.fullmatch(text.strip()))


def decoded(value: Any) -> Any:
    """Bytes, and the text in which Python prints them, as the text that they hold, in lists and objects too.

    What is no UTF-8, or no such print after all, stays as it is.
    """
    try:
        if isinstance(value, bytes | bytearray):
            return value.decode("utf-8")
        if isinstance(value, str) and _BYTES.fullmatch(value.strip()):
            return plain_literal(value)
    except (UnicodeDecodeError, NotPlain):
        return value
    if isinstance(value, list):
        return [decoded(entry) for entry in value]
    if isinstance(value, dict):
        return {decoded(name): decoded(entry) for name, entry in value.items()}
    return value


def plain_json(text: str) -> Any:
    """A JSON value. Raises `NotPlain` for text that is none, and for an object that names something twice."""
    value = read_json(text)
    if isinstance(value, Repeated) or _holds_repeated(value):
        raise NotPlain
    return value


def read_json(text: str) -> Any:
    """A JSON value, whose objects are `Repeated` where they name something twice. Raises `NotPlain`."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise NotPlain from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return Repeated(made) if len(made) < len(pairs) or any(map(_holds_repeated, made.values())) else made


def _holds_repeated(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_repeated, value))
    return isinstance(value, Repeated)


def plain_literal(text: str) -> Any:
    """A list, object, text or number out of a Python literal; `nan` and `inf` are known. Nothing is evaluated.

    Raises `NotPlain` for whatever else, texts side by side without a comma included (NumPy prints lists so, and Python
    would read them as one text).
    """
    text = text.strip()
    if len(text) > MAX_LITERAL:
        raise NotPlain
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion of odd escapes in somebody's text
            value = _value(ast.parse(text, mode="eval").body)
        if _NEIGHBOURS.search(text):
            _refuse_neighbours(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError, tokenize.TokenError):
        raise NotPlain from None
    return value


def _refuse_neighbours(text: str) -> None:
    before = tokenize.OP
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == before == tokenize.STRING:
            raise NotPlain
        if token.type != tokenize.NL:
            before = token.type


def _mapping(keys: list[ast.expr | None], values: list[ast.expr]) -> dict[Any, Any]:
    if not all(isinstance(key, ast.Constant) for key in keys):
        raise NotPlain
    pairs = {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
    if len(pairs) < len(keys):
        raise NotPlain
    return pairs


def _value(node: ast.expr) -> Any:
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return _mapping(keys, values)
        case ast.Constant(value=bytes() as data):
            return data.decode("utf-8")
        case ast.Constant(value=str() | bool() | None as constant):
            return constant
        case ast.Constant(value=int() | float() as number):
            return float(number) if isinstance(number, float) or abs(number) > 2**53 else number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() | ast.Name() as positive):
            return -_value(positive)
        case ast.Name(id="nan" | "inf" as name):
            return float(name)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[inner]) if name in _NUMPY:
            return _value(inner)
    raise NotPlain
