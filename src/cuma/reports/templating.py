"""Templates, and the JSON inside a page: what every page of ours is put together with."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

STYLE = "report/page.css"
"""The style sheet of every page."""


def html_environment() -> Environment:
    """Templates of pages: whatever is put in is escaped, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("cuma.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_json(data: dict[str, Any]) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def template_text(name: str) -> str:
    """A style sheet or script that goes into a page as it is."""
    return files("cuma.reports").joinpath("templates", name).read_text(encoding="utf-8")
