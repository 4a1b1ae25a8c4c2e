"""design.parquet: what is written is read again, with running numbers only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cuma.metrics.design import Design, Replicates
from cuma.runs.design_file import NAME, read_design, write_design


def test_a_design_read_again_is_the_same(tmp_path: Path) -> None:
    assert read_design(tmp_path) is None
    own = Replicates(np.random.default_rng(0).random((6, 3)), np.array([0.5, 0.5, 1.0]), "stratified_jackknife")
    for replicates in (None, own):
        design = Design.of(np.arange(6) + 4, list("aabbcc"), [*list("xyxyx"), None], "w", replicates)
        write_design(tmp_path, design)
        again = read_design(tmp_path)
        assert design.same_as(again)
        assert again is not None
        assert again.facts() == design.facts()
        assert again.person.tolist() == design.person.tolist()
    assert again.replicates is not None
    np.testing.assert_array_equal(again.replicates.coefficients, own.coefficients)
    table = pd.read_parquet(tmp_path / NAME)
    assert table[["person", "stratum", "unit"]].dtypes.astype(str).tolist() == ["int64"] * 3
