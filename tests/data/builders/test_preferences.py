"""PRISM and Community Alignment in their own form: triples with the chosen replies as history, counted to the turn."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import load_from_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.data.builders.base import Built, Options
from cuma.data.builders.build import build
from cuma.data.builders.community import build as build_community
from cuma.data.builders.prism import build as build_prism
from cuma.errors import BenchmarkError, CumaError
from helpers.make_preferences import (
    LETTERS,
    community_rows,
    prism_people,
    prism_talks,
    prism_turn,
    write_community,
    write_prism,
)


def splits_share(folder: Path, task: str, column: str) -> bool:
    found = [set(rows[column]) for rows in load_from_disk(folder / task).values()]
    return sum(map(len, found)) != len(set().union(*found))


def test_prism_is_counted_to_the_turn(tmp_path: Path) -> None:
    talks = prism_talks()
    talks[5]["conversation_history"][3]["content"] = "EMPTY STRING"
    for message in talks[7]["conversation_history"]:
        message["if_chosen"] = message.get("within_turn_id") in (0, 1)
    source = write_prism(tmp_path / "prism", prism_people(), talks)
    card = build("prism", source, tmp_path / "built", Options())
    assert (card["rows_read"], card["rows_kept"]) == (180, 180)
    assert card["dropped"] == {"reply: empty, or EMPTY STRING": 1}
    assert card["noted"] == {"turn with two winners, the one with the higher score taken": 2}
    assert sum(of["answers"] for of in card["splits"].values()) == 120 * (3 + 1) - 1
    assert not splits_share(tmp_path / "built", "dpo", "person_id")
    assert not splits_share(tmp_path / "built", "dpo", "conversation_id")
    for rows in load_from_disk(tmp_path / "built" / "dpo").values():
        for row in rows:
            number = row["conversation_id"].removeprefix("c")
            assert row["chosen"] == [{"role": "assistant", "content": f"Reply {number} {row['turn']} 1"}]
            asked = [{"role": "user", "content": f"Question {number} {turn}?"} for turn in range(row["turn"] + 1)]
            assert row["prompt"][::2] == asked
            assert row["prompt"][1::2] == [{"role": "assistant", "content": f"Reply {number} 0 1"}][: row["turn"]]
            assert row["profile"]["ethnicity"] is None
            assert row["profile"]["country"] == row["group"]
            assert "Prefer" not in row["profile_text"]
            assert "secret" not in json.dumps(row)


def test_community_asks_which_of_four_and_keeps_a_country_out(tmp_path: Path) -> None:
    options = Options(holdout=(("country", "India"),))
    card = build("community", write_community(tmp_path / "ca.csv", community_rows()), tmp_path / "built", options)
    assert card["rows_kept"] == 100
    assert card["noted"] == {"text that ended in <|end_of_text|>, trimmed": 800}
    assert {split: sum(card["tasks"][task][split] for task in ("sft", "dpo")) for split in card["splits"]}[
        "unseen"
    ] == 400
    choices = load_from_disk(tmp_path / "built" / "discrimination")
    assert set(choices["unseen"]["group"]) == {"India"}
    assert set(choices["train"]["group"]) == {"United States"}
    for row in choices["train"]:
        number, turn = row["conversation_id"].removeprefix("c"), row["turn"] + 1
        assert row["options"] == [f"Reply {number} {turn} {letter}" for letter in "abcd"]
        assert row["answer"] == int(number) % 4
    for task in ("sft", "dpo", "discrimination"):
        assert not splits_share(tmp_path / "built", task, "person_id")


# --- every pitfall, planted ------------------------------------------------------------------------------------------


def test_every_pitfall_of_prism_is_counted_under_its_name(tmp_path: Path) -> None:
    people, talks = prism_people(150), prism_talks(300, 150)

    def history(talk: int) -> list[dict[str, Any]]:
        return talks[talk]["conversation_history"]

    def choose(talk: int, turn: int, chosen: tuple[int, ...], **changes: Any) -> None:
        for entry in history(talk):
            if entry["turn"] == turn and entry["role"] == "model":
                entry.update(if_chosen=entry["within_turn_id"] in chosen, **changes)

    for talk in (1, 2, 3):
        choose(talk, 0, (1, 3))  # two winners, different scores: 3 triples all the same
    choose(4, 0, (1, 3), score=50)  # two winners alike: the turn goes, and the one after it
    choose(5, 1, ())  # no winner in the second turn
    choose(6, 0, ())  # none in the first: the conversation goes
    history(8)[2]["content"] = "EMPTY STRING"  # the winner of the first turn: no winner is left
    history(9)[1]["content"] = "EMPTY STRING"  # a rejected reply
    history(10)[0]["content"] = "  "  # the prompt
    history(11)[:] = prism_turn(11, 0, 4) + prism_turn(11, 2, 2)  # the second turn is missing
    history(12)[4]["content"] = history(12)[1]["content"]  # two rejected replies are one
    history(13)[1]["content"] = history(13)[2]["content"]  # a rejected reply is the chosen one
    history(14).append("not a message")  # type: ignore[arg-type]
    talks[15]["conversation_history"] = None
    talks[16]["conversation_id"] = "c17"  # the second of the two goes
    talks[18]["user_id"] = ""
    talks[19]["user_id"] = "nobody"  # has no row in the survey
    talks[20]["conversation_history"] = prism_turn(21, 0, 4) + prism_turn(20, 1, 2)  # another's prompt, other people
    lines: list[Any] = [*talks, "{broken", "[1, 2]", json.dumps(talks[0])]
    people += [people[3], {"age": "25-34 years old"}, {**people[0], "user_id": "silent", "survey_only": True}]
    people[5] = {"user_id": "user5", "gender": "Prefer not to say"}
    built = build_prism(write_prism(tmp_path / "prism", people, lines), Options())

    dropped, noted = dict(built.ledger.dropped), dict(built.ledger.noted)
    shared = {name: dropped.pop(name, 0) for name in list(dropped) if "in another split" in name}
    assert dropped == {
        "survey row of a person seen before": 1,
        "survey row without a user_id": 1,
        "survey row of a person without a usable conversation": 1,
        "conversation without an id, or without its user's": 1,
        "conversation id seen before": 2,
        "conversation without a usable first turn": 5,
        "line that is no JSON": 1,
        "line that is no JSON object": 1,
        "message: not in the documented form": 1,
        "prompt: empty, or EMPTY STRING": 1,
        "reply: empty, or EMPTY STRING": 2,
        "reply: rejected, but its text is another rejected one's": 1,
        "reply: rejected, but its text is the chosen one's": 1,
        "turn: no winner": 3,
        "turn: no prompt": 1,
        "turn: two winners with the same score": 1,
        "turn: its number is not the next": 1,
        "turn: after a gap in the conversation": 4,
    }
    assert noted == {
        "turn with two winners, the one with the higher score taken": 3,
        "person without a survey row, kept with an empty profile": 1,
        "person who took part in the survey only": 1,
        "person of whom no demographics are known": 1,
    }
    everything_is_accounted_for(built, rows=153 + 303)
    assert sum(shared.values()) <= 3
    everyone = {row["person_id"]: row["profile"] for rows in built.tasks["dpo"].values() for row in rows}
    assert not any(everyone["nobody"].values())
    assert not any(everyone["user5"].values())


def test_every_pitfall_of_community_alignment_is_counted_under_its_name(tmp_path: Path) -> None:
    rows = community_rows(300, 120)
    rows[1]["first_turn_preferred_response"] = ""  # no preference in the first turn: the conversation goes
    rows[2]["second_turn_preferred_response"] = "response_e"
    rows[3]["second_turn_preferred_response"] = ""
    for name in [name for name in rows[4] if name.startswith("second_turn")]:
        rows[4][name.replace("second", "third")] = rows[4].pop(name)  # a gap between the turns
    rows[5]["first_turn_response_c"] = "<|end_of_text|>"  # nothing but the marker; b is preferred
    rows[6]["first_turn_response_c"] = ""  # c is preferred: it says nothing
    rows[8]["first_turn_response_b"] = rows[8]["first_turn_response_a"]  # the preferred one, twice
    rows[9]["first_turn_response_c"] = rows[9]["first_turn_response_d"]  # two rejected ones alike
    rows[10]["first_turn_prompt"] = ""
    for field in ("annotator_age", "annotator_gender", "annotator_country"):
        rows[11][field] = ""  # demographics missing here, given in this person's other conversations
    rows[12]["annotator_gender"] = "male"  # told differently elsewhere
    rows[13]["conversation_id"] = rows[14]["conversation_id"]
    rows[15]["annotator_id"] = ""
    built = build_community(write_community(tmp_path / "ca.csv", rows), Options())

    dropped, noted = dict(built.ledger.dropped), dict(built.ledger.noted)
    assert dropped == {
        "conversation without an id, or without its annotator's": 1,
        "conversation id seen before": 1,
        "conversation without a usable first turn": 3,
        "discrimination: another reply has the text of the preferred one": 1,
        "discrimination: not four replies": 1,
        "reply: rejected, but its text is another rejected one's": 1,
        "reply: rejected, but its text is the chosen one's": 1,
        "turn: after a gap in the conversation": 4,
        "turn: missing between others": 1,
        "turn: no preferred reply": 2,
        "turn: no prompt": 1,
        "turn: the preferred reply is empty": 1,
        "turn: the preferred reply is none of response_a … response_d": 1,
    }
    assert noted["reply that is empty, passed over"] == 1
    assert noted["conversation whose demographics differ from its annotator's first"] == 2
    everything_is_accounted_for(built, rows=300)
    everyone = {row["person_id"]: row["profile"] for table in built.tasks["sft"].values() for row in table}
    assert everyone["a11"] == everyone["a13"]  # what was missing in one conversation is known from another
    assert not any("<|end_of_text|>" in json.dumps(row) for table in built.tasks["dpo"].values() for row in table)


def everything_is_accounted_for(built: Built, rows: int) -> None:
    """Every row read was kept or dropped under a name; reasons about parts of a row do not count."""
    whole = sum(times for reason, times in built.ledger.dropped.items() if ": " not in reason)
    assert built.ledger.rows_read == rows
    assert built.ledger.rows_kept + whole == rows


# --- bad input -------------------------------------------------------------------------------------------------------


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.csv", content)
    return buffer.getvalue()


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a zip": zipped,
    "another file": lambda _: b"name,age\nA,3\n",
    "header only": lambda content: content.split(b"\n")[0] + b"\n",
    "binary": lambda _: bytes(range(256)) * 8,
}


@pytest.mark.parametrize("how", BAD)
def test_a_wrong_file_is_a_named_error(tmp_path: Path, how: str) -> None:
    good = write_community(tmp_path / "ca.csv", community_rows()).read_bytes()
    (tmp_path / "bad.csv").write_bytes(BAD[how](good))
    with pytest.raises(BenchmarkError):
        build_community(tmp_path / "bad.csv", Options())
    folder = write_prism(tmp_path / "prism", prism_people(), prism_talks())
    for name in ("survey.jsonl", "conversations.jsonl"):
        file = folder / name
        content = file.read_bytes()
        # The first line of JSONL is no header: alone it is a whole, if small, file.
        file.write_bytes(b"{}\n" if how == "header only" else BAD[how](content))
        with pytest.raises(BenchmarkError):
            build_prism(folder, Options())
        file.write_bytes(content)


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8"), ("\t", "utf-8-sig"), (",", "utf-8-sig")])
def test_delimiters_and_marks_do_not_matter(tmp_path: Path, delimiter: str, encoding: str) -> None:
    plain = build_community(write_community(tmp_path / "a.csv", community_rows()), Options())
    other = build_community(write_community(tmp_path / "b.csv", community_rows(), delimiter, encoding), Options())
    assert {name: rows.to_list() for name, rows in other.tasks["dpo"].items()} == {
        name: rows.to_list() for name, rows in plain.tasks["dpo"].items()
    }


def test_parquet_is_read_as_the_csv_is(tmp_path: Path) -> None:
    csv_file = write_community(tmp_path / "ca.csv", community_rows())
    pd.read_csv(csv_file).to_parquet(tmp_path / "ca.parquet")
    built = [build_community(file, Options()) for file in (csv_file, tmp_path / "ca.parquet")]
    assert built[0].tasks["sft"]["train"].to_list() == built[1].tasks["sft"]["train"].to_list()
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "ca.parquet").read_bytes()[:2000])
    with pytest.raises(BenchmarkError, match="damaged"):
        build_community(tmp_path / "cut.parquet", Options())


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write_prism(tmp_path / "prism", prism_people(), prism_talks())
    (folder / "survey.jsonl").unlink()
    with pytest.raises(BenchmarkError, match=r"lacks survey\.jsonl"):
        build_prism(folder, Options())
    with pytest.raises(BenchmarkError, match="is a file"):
        build_prism(folder / "conversations.jsonl", Options())
    with pytest.raises(BenchmarkError, match="holds 0 files"):
        build_community(folder, Options())
    lacking = [{k: v for k, v in row.items() if k != "first_turn_response_b"} for row in community_rows()]
    pd.DataFrame(lacking).to_csv(tmp_path / "old.csv", index=False)
    with pytest.raises(BenchmarkError, match="first_turn_response_b"):
        build_community(tmp_path / "old.csv", Options())


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.none(), max_size=2),
    st.sampled_from(["EMPTY STRING", "nan", "defaultdict(<class 'list'>, {exit(): 1})", "\ud800", "Q" * 10_000]),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_rows_are_counted_or_refused_by_name(tmp_path: Path, data: st.DataObject) -> None:
    people, talks, rows = prism_people(12), prism_talks(12, 12), community_rows(12, 6)
    for _ in range(data.draw(st.integers(1, 6))):
        entry = data.draw(st.sampled_from(talks))["conversation_history"]
        for place in (
            data.draw(st.sampled_from(people)),
            data.draw(st.sampled_from(talks)) if not isinstance(entry, list) else data.draw(st.sampled_from(entry)),
        ):
            place[data.draw(st.sampled_from(sorted(place)))] = data.draw(ODD)
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.sampled_from(sorted(row)))] = str(data.draw(ODD)).encode("utf-8", "replace").decode()
    for make, source, total in (
        (build_prism, write_prism(tmp_path / "prism", people, talks), 24),
        (build_community, write_community(tmp_path / "ca.csv", rows), 12),
    ):
        try:
            built = make(source, Options())
        except CumaError:
            continue  # refused by name
        everything_is_accounted_for(built, total)


@pytest.mark.parametrize("name", ["prism", "community"])
def test_splits_share_no_person_conversation_or_prompt_and_a_sample_is_spread(tmp_path: Path, name: str) -> None:
    if name == "prism":
        talks = prism_talks(300, 150)
        for talk in talks[::7]:
            talk["conversation_history"][0]["content"] = "The same first question?"  # given to many people
        source = write_prism(tmp_path / "prism", prism_people(150), talks)
    else:
        rows = community_rows(300, 120)
        for row in rows[::7]:
            row["first_turn_prompt"] = "The same first question?"
        source = write_community(tmp_path / "ca.csv", rows)
    build(
        name,
        source,
        tmp_path / "built",
        Options(sample=200, seed=3, holdout=(("country", "Japan"),) if name == "prism" else ()),
    )
    for task in ("sft", "dpo"):
        splits = load_from_disk(tmp_path / "built" / task)
        for column in ("person_id", "conversation_id"):
            assert not splits_share(tmp_path / "built", task, column)
        asked = [{row["prompt"][-1]["content"] for row in rows} for rows in splits.values()]
        assert sum(map(len, asked)) == len(set().union(*asked))
        if name == "prism":
            assert set(splits["unseen"]["group"]) == {"Japan"}
            assert "Japan" not in splits["train"]["group"]
    groups = pd.Series([row["group"] for rows in load_from_disk(tmp_path / "built" / "sft").values() for row in rows])
    assert groups.value_counts(normalize=True).between(0.25, 0.6).all()


def test_letters_are_those_of_the_data(tmp_path: Path) -> None:
    built = build_community(write_community(tmp_path / "ca.csv", community_rows()), Options())
    for rows in built.tasks["discrimination"].values():
        for row in rows:
            number = int(row["conversation_id"].removeprefix("c"))
            assert row["options"][row["answer"]].endswith(LETTERS[number % 4])
            assert [m["role"] for m in row["prompt"]] == ["user", "assistant"] * row["turn"] + ["user"]
