"""Questionnaires as YAML: read strictly, written so that they are read again as they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cuma.data.builders.cell_text import cell_text
from cuma.data.builders.questionnaire import ColumnEntry, Questionnaire, ReplicateWeights
from cuma.data.builders.questionnaire_rules import check_rules
from cuma.data.builders.respondent_columns import code_text
from cuma.errors import BenchmarkError, suggestion
from cuma.recipes import strict_yaml


def load_questionnaire(path: Path) -> Questionnaire:
    """Read and check a questionnaire. Raises `BenchmarkError`."""
    try:
        tree = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(
            f"{path} cannot be read ({error.strerror}). Draft one: cuma data draft FILE --output {path.name}."
        ) from error
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except strict_yaml.StrictYamlError as error:
        raise BenchmarkError(f"{path}: {error}.") from error
    return read_questionnaire(tree, str(path))


def read_questionnaire(tree: Any, source: str) -> Questionnaire:
    """A questionnaire from plain values, as YAML gives them. source: what errors call it. Raises `BenchmarkError`."""
    if not isinstance(tree, dict) or not isinstance(tree.get("columns"), dict) or not tree["columns"]:
        raise BenchmarkError(f"{source} has no columns. Draft a questionnaire: cuma data draft FILE.")
    _known(tree, Questionnaire, "", source)
    columns = {}
    for name, entry in tree["columns"].items():
        where = f"columns.{name}"
        if not isinstance(entry, dict):
            raise BenchmarkError(f"{source}: {where} is no mapping; expected a role, as {{role: ignored}}.")
        _known(entry, ColumnEntry, f"{where}.", source)
        codes = {key: _codes(entry[key], f"{where}.{key}", source) for key in ("options", "no_answer") if key in entry}
        columns[name if isinstance(name, str) else cell_text(name)] = _made(ColumnEntry, entry | codes, where, source)
    whole = {**tree, "columns": columns}
    if isinstance(tree.get("everyone"), dict):
        whole["everyone"] = {name: _plain_text(value) for name, value in tree["everyone"].items()}
    if isinstance(tree.get("replicates"), dict):
        whole["replicates"] = _made(ReplicateWeights, tree["replicates"], "replicates", source)
    questionnaire: Questionnaire = _made(Questionnaire, whole, "", source)
    check_rules(questionnaire, source)
    return questionnaire


def plain(questionnaire: Questionnaire) -> dict[str, Any]:
    """Whatever differs from what is taken where nothing is said; `read_questionnaire` gives the same from it."""
    tree = _short(Questionnaire, asdict(questionnaire))
    columns = tree.pop("columns")
    short = {}
    for name, entry in columns.items():
        short[name] = _short(ColumnEntry, entry)
        for key in ("options", "no_answer"):
            if key in short[name]:
                short[name][key] = {_key(code): text for code, text in short[name][key].items()}
    return {**tree, "columns": short}


def _key(code: str) -> int | str:
    return int(code) if len(code) < 16 and code.removeprefix("-").isascii() and str(code) == _whole(code) else code


def _whole(code: str) -> str:
    return str(int(code)) if code.removeprefix("-").isdecimal() else ""


def _short(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    known = {one.name: one for one in fields(kind)}
    result = {}
    for name, value in values.items():
        own = known[name]
        usual = own.default_factory() if callable(own.default_factory) else own.default
        if value != usual:
            result[name] = list(value) if isinstance(value, tuple) else value
    return result


def _known(entry: Mapping[Any, Any], kind: Any, prefix: str, source: str) -> None:
    known = [one.name for one in fields(kind)]
    for key in entry:
        if key not in known:
            raise BenchmarkError(f"{source}: unknown key '{prefix}{key}'. {suggestion(str(key), known)}")


def _codes(entry: Any, where: str, source: str) -> Any:
    """Codes as texts: 1, 1.0 and "1" are one."""
    if not isinstance(entry, dict):
        return entry
    texts = [code_text(code) for code in entry]
    twice = [text for text, times in Counter(texts).items() if times > 1 or not text]
    if twice:
        raise BenchmarkError(f"{source}: {where} has the code {twice[0]!r} twice, or an empty one. Keep one.")
    return {text: _plain_text(value) for text, value in zip(texts, entry.values(), strict=True)}


def _plain_text(value: Any) -> Any:
    """Numbers and truths stand for their own text, as in `options: {1: 1, 2: 2}`."""
    return cell_text(value) if isinstance(value, int | float) else value


def _made(kind: Any, values: Mapping[str, Any], where: str, source: str) -> Any:
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in (where, *first["loc"]) if part and not str(part).startswith("dict["))
        said = first["msg"].replace("Input should be", "expected").removesuffix(".")
        raise BenchmarkError(f"{source}: {at} is {first['input']!r:.80}; {said}.") from error
