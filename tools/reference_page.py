"""Write docs/recipes.md, the page of all recipe keys and profile fields, from the code that defines them.

python tools/reference_page.py        # a test says when it has to run
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe, packaged_recipes
from cuma.recipes.reference import attribute_meanings, recipe_keys, section_meaning

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
START = """# Recipes and fields
<!-- Written by tools/reference_page.py from the code. -->

A recipe is one experiment: a YAML file, or a name that `cuma list recipes` shows. What it leaves out has the
default below; `base: NAME` takes over another recipe's keys; on the command line `KEY=VALUE` replaces one
(`cuma train default training.max_steps=500`).

```bash
cuma show default                      # a whole recipe, each key with its meaning
cuma show default > mine.yaml          # change it, then: cuma train mine.yaml
cuma list keys                         # this page's keys, at the terminal; also: cuma list fields, cuma list metrics
```
"""


def page() -> str:
    """The page's text."""
    parts = [START]
    for section, keys in groupby(recipe_keys(), key=lambda key: key.section):
        heading = (
            f"## {section}\n\n{section_meaning(section)}" if section else "## At the top\n\nWhat the experiment is."
        )
        rows = [[f"`{key.path}`", key.values, f"`{key.default_text}`", key.meaning] for key in keys]
        parts.append(f"{heading}\n\n{_table(['key', 'values', 'default', 'meaning'], rows)}")
    fields = [[f"`{name}`", text] for name, text in attribute_meanings(Profile).items()]
    parts.append(
        "## Fields of a profile\n\nAll are optional; nothing is inferred. Values are text; numbers are welcome.\n\n"
        + _table(["field", "what it holds"], fields)
    )
    recipes = [[f"`{name}`", load_recipe(name).description] for name in packaged_recipes()]
    parts.append("## Packaged recipes\n\n" + _table(["name", "what it is"], recipes))
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
