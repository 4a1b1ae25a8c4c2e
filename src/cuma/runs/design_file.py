"""design.parquet of an evaluation: the survey's design beside its predictions, with running numbers in place of ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cuma.metrics.design import COLUMNS, REPLICATE, Design, Replicates
from cuma.runs.folder import replacing

NAME = "design.parquet"
FACTS = ("strata_known", "units_known", "weights", "unknown")


def write_design(folder: Path, design: Design) -> None:
    """A row a person: person, stratum, unit, and replicate_weights where there are any (over the person's weight)."""
    columns = (design.person, design.stratum[design.unit], design.unit)
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    table.attrs = {name: getattr(design, name) for name in FACTS}
    if own := design.replicates:
        table[REPLICATE] = list(own.times)
        table.attrs |= {"kind": own.kind, "coefficients": own.coefficients.tolist()}
    with replacing(folder / NAME) as temporary:
        table.to_parquet(temporary, index=False)


def read_design(folder: Path) -> Design | None:
    """The design that an evaluation was scored with; None: none was known."""
    file = folder / NAME
    if not file.is_file():
        return None
    table = pd.read_parquet(file)
    person, stratum, unit = (table[name].to_numpy(dtype=np.int64) for name in COLUMNS)
    of_unit = np.zeros(int(unit.max()) + 1, dtype=np.int64)
    of_unit[unit] = stratum
    own = None
    if REPLICATE in table.columns:
        times = np.stack(table[REPLICATE].to_list())
        own = Replicates(times, np.array(table.attrs["coefficients"]), table.attrs["kind"])
    return Design(person, unit, of_unit, replicates=own, **{name: table.attrs[name] for name in FACTS})
