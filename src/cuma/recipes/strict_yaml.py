"""YAML without its traps: what people write is what they get, and nothing is lost in silence.

YAML 1.1, which PyYAML reads, takes `1e-3` for a string, `no` for False, `010` for 8 and `12:30` for 750, and lets the
second of two equal keys win. Here numbers follow YAML 1.2, only `true` and `false` are booleans, there are no dates,
and a repeated key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_SCALARS = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "tag:yaml.org,2002:merge": (r"<<", ["<"]),
}
"""Tag → (the plain texts that have this type, the characters they start with)."""


class StrictYamlError(ValueError):
    """The text is not YAML, or repeats a key. The message names the line."""


class _Loader(yaml.SafeLoader):
    """Knows only the scalars in _SCALARS, and refuses a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise StrictYamlError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands there twice")
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 or we would read as something else."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML writes these three line breaks into single quotes and reads them back as a space.
        style = '"' if set(data) & set("\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


_Loader.yaml_implicit_resolvers = {}  # forget those of YAML 1.1
for _tag, (_pattern, _starts) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _starts)
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _starts)


def parse(text: str) -> Any:
    """The value that a YAML text holds; None for an empty text.

    Raises:
        StrictYamlError: the text is not YAML, holds several documents or foreign tags, or repeats a key.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise StrictYamlError(f"{line}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise StrictYamlError(" ".join(str(error).split())) from error


def dump(value: Any, *, compact: bool = False) -> str:
    """YAML text from which `parse` gives back the same value; keys keep their order.

    compact: mappings and lists that hold no others stand on one line each, however long it gets.
    """
    style: dict[str, Any] = {"default_flow_style": None, "width": 2**20} if compact else {"width": 120}
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style)
