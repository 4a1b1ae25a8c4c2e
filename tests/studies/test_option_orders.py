"""The study of options' orders: its documented tables are those of its results."""

from __future__ import annotations

import importlib
import json

import pytest

from helpers import ROOT


def test_the_documented_tables_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    study = importlib.import_module("option_orders")
    runs = json.loads((ROOT / study.RESULT).read_text(encoding="utf-8"))["runs"]
    assert set(runs) == {f"{orders}/1000" for orders in study.ORDERS}
    rows = [row for row in study.page(runs).splitlines() if row.startswith("|")]
    assert len(rows) == 3 * (2 + len(study.ORDERS))
    documented = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert [row for row in rows if row not in documented] == []
