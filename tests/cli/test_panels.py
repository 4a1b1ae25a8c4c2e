"""A verb's options, taken together from a function for each panel."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.testing import CliRunner

from cuma.cli.main import app
from cuma.cli.measurements import MEASUREMENTS
from cuma.cli.panels import with_panels

Workers = Annotated[int, typer.Option(help="Shared.")]


def left(width: Annotated[int, typer.Option(help="Of the left.")] = 1, workers: Workers = 8) -> tuple[int, int]:
    return width, workers


def right(workers: Workers, height: Annotated[int, typer.Option(help="Of the right.")] = 2) -> tuple[int, int]:
    return height, workers


def test_each_function_gets_its_own_options_and_a_shared_one_is_one_option() -> None:
    @with_panels(one=left, other=right)
    def verb(one: tuple[int, int], other: tuple[int, int], name: str = "x") -> None:
        typer.echo(f"{name} {one} {other}")

    tool = typer.Typer()
    tool.command()(verb)
    assert CliRunner().invoke(tool, []).output.strip() == "x (1, 8) (2, 8)"
    words = ["--workers", "3", "--height", "5", "--name", "y"]
    assert CliRunner().invoke(tool, words).output.strip() == "y (1, 3) (5, 3)"
    assert CliRunner().invoke(tool, ["--help"]).output.count("--workers") == 1


def test_every_measurement_of_the_table_is_an_option_with_its_help() -> None:
    shown = " ".join(CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "300"}).output.split())
    for option, measurement in MEASUREMENTS.items():
        assert option in shown
        assert measurement.help in shown
