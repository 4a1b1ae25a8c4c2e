"""The page: whole, alone, discreet, and the same every time."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from cuma.errors import RunError
from cuma.reports import write_report
from cuma.reports.tables import cell_text, shown_columns
from helpers.synthetic import DRAWS, METHODS, population, write_measurements, write_run

LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping", "manifest"}


class Reader(HTMLParser):
    """Attributes that make a browser load something, ids, headings and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.unlabelled: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.loads += [(tag, key) for key in named if key in LOADS or (key == "href" and tag != "a")]
        if named.get("role") == "img" and not named.get("aria-label"):
            self.unlabelled.append(tag)


def without_plotly(page: str) -> str:
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def data_of(page: str) -> dict[str, Any]:
    return dict(json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0]))


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    own = without_plotly(page)
    reader = Reader()
    reader.feed(own)
    assert reader.loads == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(reader.tags)
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttpRequest|import\(", own)
    assert "default-src 'none'" in own


def test_ids_are_unique_and_pictures_have_words(page: str) -> None:
    reader = Reader()
    reader.feed(without_plotly(page))
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.unlabelled == []
    assert next(tag for tag in reader.tags if re.fullmatch("h[1-3]", tag)) == "h1"


def test_every_figure_of_the_table_is_on_the_page(page: str, table: pd.DataFrame) -> None:
    rows = re.findall(r'<tr class="(?:reference|rival|control|anchor)".*?</tr>', without_plotly(page), re.DOTALL)
    assert len(rows) == len(table)
    for text, (_, row) in zip(rows, table.iterrows(), strict=True):
        cells = [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td>(.*?)</td>", text)]
        assert cells == [cell_text(row, column.key) for column in shown_columns(table)]
        assert row["label"] in html.unescape(text)


def test_the_page_says_that_no_design_is_known(page: str) -> None:
    assert "No strata or sampling units are known: intervals take people as drawn one by one." in page
    assert "design effect" not in page


def test_same_input_same_bytes(page: str, runs: list[Path], tmp_path: Path) -> None:
    again = write_report(runs, tmp_path / "again" / "report.html", draws=DRAWS)
    assert again.read_text(encoding="utf-8") == page


def test_small_groups_are_nowhere_on_the_page(tmp_path: Path) -> None:
    world = population(lambda i: 7 if i in (3, 20, 55) else 40 + i)
    chosen = [recipe for recipe in METHODS if recipe.name in ("cuma", "lora", "anchor-average")]
    runs = [write_run(tmp_path, recipe, world) for recipe in chosen]
    page = without_plotly(write_report(runs, tmp_path / "report.html", draws=0).read_text(encoding="utf-8"))
    for small in (3, 20, 55):
        assert world.groups[small] not in html.unescape(page)
    data = data_of(page)
    shown = {group["label"] for group in data["answers"]["groups"]}
    gone = [i for i, group in enumerate(world.groups) if group not in shown]
    assert gone == [3, 20, 50, 55]  # 55 alone among the unseen: the smallest other unseen group goes with it
    assert "4 groups are not shown" in page
    for entry in data["topology"]:
        assert set(entry["groups"]) <= shown
    for side in (range(50), range(50, 65)):
        hidden_people = [7 if i in (3, 20, 55) else 40 + i for i in side if i in gone]
        assert len(hidden_people) >= 2
        assert sum(hidden_people) >= 11


def test_a_side_of_one_small_group_is_left_out_everywhere(tmp_path: Path) -> None:
    world = population(lambda i: 5 if i == 50 else 0 if i > 50 else 20)
    chosen = [recipe for recipe in METHODS if recipe.name in ("cuma", "lora", "anchor-average")]
    runs = [write_run(tmp_path, recipe, world) for recipe in chosen]
    folder = write_measurements(runs[1])
    found = json.loads((folder / "collapse.json").read_text())
    found["sides"]["unseen"] = found["sides"]["seen"]
    for question in (None, "abany"):
        alarm = {"side": "unseen", "kind": "spread", "question": question, "group": None}
        found["alarms"].append({**alarm, "sentence": "Few are made the same."})
    (folder / "collapse.json").write_text(json.dumps(found))
    page = without_plotly(write_report(runs, tmp_path / "report.html", draws=DRAWS).read_text(encoding="utf-8"))
    assert "Of unseen groups fewer than 11 people were tested, so that no figure is shown." in page
    for text in (page, *((tmp_path / f"report{end}").read_text(encoding="utf-8") for end in (".md", ".tex"))):
        assert "Unseen groups:" not in text
        assert "<td>unseen</td>" not in text
        assert "never seen in training" not in text
        assert "Few are made the same." not in text
    assert all("unseen" not in panel["title"] for panel in data_of(page)["panels"])


def test_a_page_without_any_side_of_enough_people_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, METHODS[1], population(lambda i: 5 if i in (0, 50) else 0))
    page = without_plotly(write_report([run], tmp_path / "report.html", draws=DRAWS).read_text(encoding="utf-8"))
    assert "Of seen groups fewer than 11 people were tested" in page
    assert 'id="h-table"' not in page
    assert data_of(page)["panels"][0]["title"] == "Training loss"


def test_profile_text_beyond_labels_never_reaches_the_page(
    runs: list[Path], copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Groups that only the routing knows (validation groups) are not shown either."""
    run = copy_of(next(run for run in runs if run.name == "cuma"))
    file = next(run.glob("evaluations/*/routing.parquet"))
    routing = pd.read_parquet(file)
    extra = routing[routing["group"] == routing["group"].iloc[0]].assign(group="A 55-year-old Buddhist")
    pd.concat([routing, extra]).to_parquet(file)
    page = write_report([run], tmp_path / "report.html", draws=0).read_text(encoding="utf-8")
    assert "Buddhist" not in page


def test_only_anchors_still_make_a_page(runs: list[Path], tmp_path: Path) -> None:
    anchors = [run for run in runs if run.name.startswith("anchor")]
    page = without_plotly(write_report(anchors, tmp_path / "report.html", draws=DRAWS).read_text(encoding="utf-8"))
    data = data_of(page)
    assert data["panels"] == []
    assert data["topology"] == []
    assert 'id="curves"' not in page
    assert 'id="map"' not in page
    assert "Against" not in page


def test_one_side_alone_makes_a_page(runs: list[Path], tmp_path: Path) -> None:
    counts = [run for run in runs if run.name == "anchor-counts"]
    page = without_plotly(write_report(counts, tmp_path / "report.html", draws=DRAWS).read_text(encoding="utf-8"))
    assert "Seen groups:" in page
    assert "Unseen groups:" not in page


def test_text_of_runs_cannot_break_out(runs: list[Path], copy_of: Callable[[Path], Path], tmp_path: Path) -> None:
    run = copy_of(next(run for run in runs if run.name == "cuma"))
    info = json.loads((run / "run.json").read_text())
    info["label"] = info["description"] = "</script><script>alert(1)</script>"
    (run / "run.json").write_text(json.dumps(info))
    page = without_plotly(write_report([run], tmp_path / "report.html", draws=0).read_text(encoding="utf-8"))
    assert "<script>alert" not in page
    assert data_of(page)["methods"][0]["label"] == info["label"]


def test_the_scripts_ask_only_for_what_the_page_has(page: str, world_page: Path) -> None:
    for text in (page, world_page.read_text(encoding="utf-8")):
        own = without_plotly(text)
        scripts = "".join(re.findall(r"<script>(.*?)</script>", own, re.DOTALL))
        asked = set(re.findall(r'\b(?:at|chosen)\("([a-z-]+)"\)', scripts))
        optional = {"topology-method", "changes-method"}  # pickers of one mixture among several; asked for with "?."
        reader = Reader()
        reader.feed(own)
        assert len(asked) > 15
        assert asked - set(reader.ids) <= optional


def test_a_page_that_cannot_be_written_says_so(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"report\.html"):
        write_report(runs[:1], tmp_path / "file" / "report.html", draws=0)


def test_reports_never_import_torch() -> None:
    code = "import sys, cuma.reports; print({'torch','peft','transformers','datasets','trl'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
