"""A build is written whole, and never over anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.errors import BenchmarkError

ROWS = [{"question": "Is it?", "options": ["Yes", "No"], "answer": "Yes", "person_id": n, "country": "Peru"}
        for n in range(12)]  # fmt: skip


def made(folder: Path, rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return build("own", folder / "mine.jsonl", folder / "built", Options(**options))


@pytest.mark.parametrize("change", [{"rows": ROWS[:11]}, {"seed": 1}, {"holdout": (("country", "Peru"),)}])
def test_other_data_are_never_replaced(tmp_path: Path, change: dict[str, Any]) -> None:
    made(tmp_path, ROWS)
    held = (tmp_path / "built" / "card.json").read_bytes()
    with pytest.raises(BenchmarkError, match=r"holds other data .* never replaced"):
        made(tmp_path, **({"rows": ROWS} | change))
    assert (tmp_path / "built" / "card.json").read_bytes() == held


def test_the_same_build_is_written_anew_and_keeps_what_lies_beside_it(tmp_path: Path) -> None:
    card = made(tmp_path, ROWS)
    (tmp_path / "built" / "sparsity.html").write_text("page")
    (tmp_path / "built" / "survey" / "dataset_dict.json").write_text("damaged")
    assert made(tmp_path, ROWS) == card
    assert (tmp_path / "built" / "sparsity.html").read_text() == "page"
    assert (tmp_path / "built" / "survey" / "dataset_dict.json").read_text() != "damaged"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["built", "mine.jsonl"]


@pytest.mark.parametrize("card", ["{", "[]", '{"hello": 1}'])
def test_a_card_that_is_none_of_ours_protects_its_folder(tmp_path: Path, card: str) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "card.json").write_text(card)
    with pytest.raises(BenchmarkError, match="something else"):
        made(tmp_path, ROWS)
    assert (tmp_path / "built" / "card.json").read_text() == card


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "built").write_text("mine")
    with pytest.raises(BenchmarkError, match="is a file"):
        made(tmp_path, ROWS)
