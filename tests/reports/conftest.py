"""Fixtures of the report's tests: one synthetic set of runs, its table and its page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cuma.reports import comparison_table, write_report
from helpers.synthetic import DRAWS, METHODS, Population, countries, population, write_measurements, write_run


@pytest.fixture(scope="session")
def world() -> Population:
    return population()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, world: Population) -> list[Path]:
    """All nine run folders; tests only read them."""
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder, recipe, world) for recipe in METHODS]


@pytest.fixture(scope="session")
def table(runs: list[Path]) -> pd.DataFrame:
    return comparison_table(runs, draws=DRAWS)


@pytest.fixture(scope="session")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about all nine runs."""
    path = write_report(runs, tmp_path_factory.mktemp("page") / "report.html", draws=DRAWS)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def four_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four runs on countries, two of them mixtures, one with everything measured."""
    folder = tmp_path_factory.mktemp("countries")
    chosen = ("cuma", "lora", "semantic", "anchor-average")
    made = [write_run(folder, recipe, countries()) for recipe in METHODS if recipe.name in chosen]
    write_measurements(folder / "cuma")
    return made


@pytest.fixture(scope="session")
def world_page(four_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about the four runs."""
    return write_report(four_runs, tmp_path_factory.mktemp("world") / "report.html", draws=DRAWS)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a run folder, to be damaged."""
    return lambda run: Path(shutil.copytree(run, tmp_path / run.name))
