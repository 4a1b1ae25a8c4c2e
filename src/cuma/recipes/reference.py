"""What every key of a recipe means: its values, its default and its sentence, read from the code that defines it."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from cuma.recipes import strict_yaml
from cuma.recipes.methods import METHODS
from cuma.recipes.schema import IDENTITY, SECTIONS, Recipe

WIDTH = 100
"""Characters of a line of comment."""


@dataclass(frozen=True)
class Key:
    """One key of a recipe."""

    section: str
    """ "" for the keys at the top."""
    name: str
    values: str
    """What it can be: "integer ≥ 1 | null"."""
    default: Any
    meaning: str

    @property
    def path(self) -> str:
        """As it is written on the command line: "training.max_steps"."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def default_text(self) -> str:
        """As it is written on the command line."""
        return json.dumps(self.default, ensure_ascii=False)


@cache
def recipe_keys() -> tuple[Key, ...]:
    """Every key, those at the top first, in the order of the code."""
    return (*_keys_of("", Recipe), *(key for name, section in SECTIONS.items() for key in _keys_of(name, section)))


def section_meaning(section: str) -> str:
    """The section in a sentence."""
    return " ".join((SECTIONS[section].__doc__ or "").split())


def explained(recipe: Recipe) -> str:
    """A whole recipe as YAML that `load_recipe` reads back to an equal one, each key with its meaning above it."""
    lines: list[str] = []
    whole = strict_yaml.parse(recipe.to_yaml())
    section = ""
    for key in recipe_keys():
        if key.section != section:
            section = key.section
            lines += ["", *_comment(section_meaning(section), ""), f"{section}:"]
        indent = "  " if section else ""
        value = (whole[section] if section else whole)[key.name]
        text = "\n".join(strict_yaml.dump({key.name: value}).rstrip().splitlines())
        named = key.name in IDENTITY and not section
        told = key.meaning if named else f"{key.meaning} [{key.values}; default {key.default_text}]"
        lines += [*_comment(told, indent), textwrap.indent(text, indent)]
    return "\n".join(lines) + "\n"


def attribute_meanings(kind: type) -> dict[str, str]:
    """Attribute → the text behind it in the source, for a class and those that it inherits from (PEP 258)."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.startswith("cuma."):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            assert isinstance(body, ast.ClassDef)
            found |= dict(_documented(body.body))
    return found


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, behind in pairwise(body):
        match statement, behind:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def _keys_of(section: str, kind: type) -> list[Key]:
    meanings = attribute_meanings(kind)
    schema = TypeAdapter(kind).json_schema()
    own_first = sorted(fields(kind), key=lambda field: _place(kind, field.name))
    found = []
    for field in (field for field in own_first if field.name not in SECTIONS):
        method = (section, field.name) == ("adapter", "method")
        values = " | ".join(METHODS) if method else _values(schema["properties"][field.name])
        found.append(Key(section, field.name, values, _default(field), meanings[field.name]))
    return found


def _place(kind: type, name: str) -> int:
    """A class's own keys come before those that it inherits."""
    return next(place for place, one in enumerate(kind.__mro__) if name in inspect.get_annotations(one))


def _default(field: Any) -> Any:
    default = field.default if field.default is not MISSING else field.default_factory()
    default = getattr(default, "default", default)  # of pydantic's own field
    return list(default) if isinstance(default, tuple) else default


def _values(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        return " | ".join(_values(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type", "text")
    if kind == "array":
        return f"list of {_values(schema['items'])}"
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = [f"{sign} {schema[name]:g}" for name, sign in bounds if name in schema]
    return " ".join([{"string": "text", "boolean": "true | false"}.get(kind, kind), ", ".join(limits)]).strip()


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)
