"""GlobalOpinionQA: every pitfall counted under its name, no code run, questions never in two splits."""

import csv
import io
import random
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.built_folder import write
from cuma.data.builders.global_opinions import build, check
from cuma.data.builders.scales import is_no_answer, is_ordinal
from cuma.data.corpus import Corpus
from cuma.errors import BenchmarkError
from helpers import SHARED

REAL = SHARED / "data" / "real" / "global_opinions.csv"
KEPT = {
    "Depends", "Depends (VOL)", "Depends on Individual (VOL)", "Depends on the situation (VOL)", "Hard to say",
    "I do not know examples concerned", "No, I do not know anyone",
    "Let people come as long as there are jobs available",
}  # fmt: skip
"""Answers all the same: that it depends, that it is hard to say (which stands beside "Don't know"), and these."""
HEADER = ["question", "selections", "options", "source"]
SCALE = ["Very good", "Somewhat good", "Somewhat bad", "Very bad", "DK/Refused"]
GOOD = [0.4, 0.3, 0.2, 0.05, 0.05]


def selections(table):
    return f"defaultdict(<class 'list'>, {table!r})"


def row(text, table, options=SCALE, source="GAS"):
    return [text, table if isinstance(table, str) else selections(table), repr(options), source]


def save(path, rows, header=HEADER, delimiter=",", encoding="utf-8"):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerows([header, *rows])
    path.write_bytes(stream.getvalue().encode(encoding))
    return path


def plain(count=40, source="GAS"):
    countries = {"France": GOOD, "S. Korea": [0.1, 0.2, 0.3, 0.4, 0.0], "Japan": [0.25, 0.25, 0.25, 0.25, 0.0]}
    return [row(f"How good is thing {n}?", countries, source="WVS" if n % 4 == 0 else source) for n in range(count)]


def rows_of(built):
    return [entry for rows in built.tasks["distribution"].values() for entry in rows]


def test_pitfalls_are_counted_under_their_names(tmp_path):
    marker = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    rows = [
        row("Kept?", {"France": GOOD, "Great Britain": GOOD}),
        row("", {"France": GOOD}),
        row("Samples?", {"India (Old national sample)": [0.1, 0.1, 0.1, 0.7, 0.0], "China (Non-national sample)": GOOD,
                         "India (Current national sample)": GOOD}),
        row("Lengths?", {"France": GOOD, "Japan": [0.5, 0.5]}),
        row("Sums?", {"France": [0.41, 0.3, 0.2, 0.05, 0.05], "Japan": [0.4, 0.3, 0.2, 0.2, 0.05]}),
        row("Negative?", {"France": GOOD, "Japan": [-0.1, 0.5, 0.5, 0.1, 0.0]}),
        row("Not a number?", "defaultdict(<class 'list'>, {'France': [0.4, 0.3, 0.2, 0.05, 0.05], "
                             "'Japan': [nan, 0.3, 0.2, 0.05, 0.05], 'Peru': [inf, 0, 0, 0, 0]})"),
        row("Nobody?", {"France": GOOD, "Japan": [0, 0, 0, 0, 1.0]}),
        row("Text?", {"France": GOOD, "Japan": ["a"] * 5, "nan": GOOD}),
        row("Code?", f"defaultdict(<class 'list'>, {{'France': [{code}, 1.0]}})"),
        row("Code in a key?", f"defaultdict(<class 'list'>, {{{code}: [1.0, 0.0]}})"),
        ["Code in options?", selections({"France": GOOD}), f"[{code}]", "GAS"],
        row("Cut?", "defaultdict(<class 'list'>, {'France': [0.4, 0.3"),
        row("Deep?", "{'a': " + "[" * 5000 + "]" * 5000 + "}"),
        row("Long?", "{'a': [" + "1," * 240_000 + "]}"),
        row("Signs?", "{'a': [" + "-" * 20_000 + "1]}"),
        row("Sum of many?", "{'a': [" + "+".join(["1"] * 20_000) + "]}"),
        row("Big number?", "{'France': [" + "9" * 4000 + ", 0, 0, 0, 0]}"),
        row("Few?", {"France": [0.5, 0.5]}, ["Yes", "Don't know"]),
        row("Twice?", {"France": [0.5, 0.5]}, ["Yes", "Yes"]),
        row("Kept?", {"Japan": GOOD}),
        row("No table?", "nothing here"),
        row("Nobody left?", {"Japan": [1.0]}),
    ]  # fmt: skip
    built = build(save(tmp_path / "data.csv", rows), Options())
    ledger = built.ledger
    assert not marker.exists()
    assert ledger.rows_read == len(rows) == 23
    assert ledger.rows_kept == 8
    assert dict(ledger.dropped) == {
        "no question": 1,
        "no country with a usable distribution": 1,
        "options that are no list of texts": 1,
        "options that are empty or occur twice": 1,
        "selections that are no table of countries": 9,
        "fewer than two options beside those that are no answer": 1,
        "the same question and options again": 1,
        "country: no name": 1,
        "country: a second sample of it": 1,
        "country: distribution and options differ in length": 2,
        "country: distribution that does not sum to 1": 1,
        "country: distribution that is no list of numbers": 1,
        "country: nobody gave an answer": 1,
        "country: share that is negative or not a number": 3,
    }
    whole = sum(n for reason, n in ledger.dropped.items() if not reason.startswith("country"))
    assert whole + ledger.rows_kept == ledger.rows_read
    assert ledger.noted["country: remark about its sample cut"] == 3
    assert ledger.noted["country: distribution that sums to 1 only within 2 %, renormalised"] == 1
    found = {(entry["question"], entry["group"]): entry for entry in rows_of(built)}
    assert len(found) == 10
    kept = found["Kept?", "France"]
    assert kept["options"] == SCALE[:4]
    assert kept["distribution"] == pytest.approx([0.4 / 0.95, 0.3 / 0.95, 0.2 / 0.95, 0.05 / 0.95])
    assert kept["ordinal"]
    assert kept["person_id"] is None
    assert kept["profile"]["country"] == "France"
    assert kept["profile_text"] == "A person living in France"
    assert found["Samples?", "India"]["distribution"] == kept["distribution"]
    assert all(sum(entry["distribution"]) == pytest.approx(1, abs=1e-12) for entry in found.values())


@pytest.mark.skipif(not REAL.exists(), reason="GlobalOpinionQA's content is not here")
def test_the_real_file_keeps_no_option_that_is_no_answer():
    """Counted over all options of the data set: nothing that speaks of missing answers stays but what is named here."""
    ledger, questions, cells = check(REAL)
    left_out = {what: n for what, n in ledger.noted.items() if what.startswith("option that is no answer")}
    assert (ledger.rows_read, questions, cells) == (1727, 1726, 9738)
    assert len(left_out) == 15
    assert left_out["option that is no answer, left out: Other missing; Multiple answers Mail (EVS)"] == 117
    built = build(REAL, Options(rows=1))
    kept = {option for entry in rows_of(built) for option in entry["options"]}
    speaks = (
        r"missing|refus|n.t know|not know|no answer|opinion|applicable|\binap|available|unknown|asked|\brate\b|"
        r"depends|hard to say"
    )
    assert {option for option in kept if re.search(speaks, option.casefold())} == KEPT
    assert len({entry["question_id"] for entry in rows_of(built) if entry["ordinal"]}) == 558


def test_check_names_the_options_that_are_left_out(tmp_path):
    source = save(tmp_path / "data.csv", plain(8))
    done = CliRunner().invoke(app, ["data", "check", str(source)])
    assert done.exit_code == 0
    assert "8 of 8 questions usable, 24 countries' shares" in done.stdout
    assert "8  option that is no answer, left out: DK/Refused" in done.stdout
    card = write(build(source, Options()), tmp_path / "built", Options())
    assert card["noted"]["option that is no answer, left out: DK/Refused"] == 8


def test_true_and_false_are_no_shares_and_no_options(tmp_path):
    odd = [row("True?", {"France": [True, False]}, ["Yes", "No"]), row("Listed?", {"France": [1.0, 0.0]}, [True, "No"])]
    rows = [*plain(4), *odd]
    dropped = build(save(tmp_path / "data.csv", rows), Options()).ledger.dropped
    assert dropped["country: distribution that is no list of numbers"] == 1
    assert dropped["options that are no list of texts"] == 1


def test_splits_share_no_question_and_hold_out_countries(tmp_path):
    rows = [*plain(), row("how good is  thing 1?", {"France": [0.5, 0.5]}, ["Good", "Bad"])]
    built = build(save(tmp_path / "data.csv", rows), Options(holdout=(("country", "south korea"),)))
    task = built.tasks["distribution"]
    texts = {}
    for part in task.values():
        for entry in part:
            texts.setdefault(entry["question_split"], set()).add(" ".join(entry["question"].casefold().split()))
    assert set(texts) == {"train", "validation", "test"}
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) == 40
    assert set(task["unseen"]["group"]) == {"South Korea"}
    assert all("South Korea" not in rows["group"] for split, rows in task.items() if split != "unseen")
    assert len(task["unseen"]) == 40
    assert all(entry["question_split"] == "train" for entry in task["train"])
    assert {entry["question_split"] for entry in task["test"]} == {"train", "test"}
    assert {"corners", "items"} <= built.facts.keys()
    with pytest.raises(BenchmarkError, match="nobody has that value"):
        build(tmp_path / "data.csv", Options(holdout=(("country", "Korea"),)))


def test_conversations_end_in_a_letter_that_the_country_gives(tmp_path):
    certain = {"France": [0, 0, 1.0, 0, 0], "Japan": [0, 0.5, 0.5, 0, 0]}
    many = [f"Choice {n}" for n in range(27)]
    rows = [row(f"How good is thing {n}?", certain) for n in range(200)]
    rows.append(row("Too many?", {"France": [1.0] + [0.0] * 26}, many))
    built = build(save(tmp_path / "data.csv", rows), Options(rows=150))
    assert built.ledger.noted["distribution with more options than letters, not made a conversation"] == 1
    said = {"France": [], "Japan": []}
    for split, table in built.tasks["sft"].items():
        assert len(table) <= 150
        assert split != "train" or len(table) == 150
        for entry in table:
            assert entry["person_id"] is None
            _, *options, _ = entry["prompt"][-1]["content"].split("\n")
            named = dict(option.split(". ") for option in options)
            said[entry["group"]].append(named[entry["completion"][0]["content"]])
    assert set(said["France"]) == {"Somewhat bad"}
    assert set(said["Japan"]) == {"Somewhat good", "Somewhat bad"}
    assert 0.3 < said["Japan"].count("Somewhat bad") / len(said["Japan"]) < 0.7


def test_a_built_folder_trains_whole_countries(tmp_path):
    options = Options(holdout=(("country", "Japan"),))
    write(build(save(tmp_path / "data.csv", plain()), options), tmp_path / "built", options)
    survey = Corpus.open(tmp_path / "built").survey()
    assert {group.id: group.role for group in survey.groups} == {
        "France": "seen",
        "Japan": "test",
        "South Korea": "seen",
    }
    assert not survey.questions


def test_sample_draws_questions_of_both_surveys(tmp_path):
    built = build(save(tmp_path / "data.csv", plain()), Options(sample=12))
    found = rows_of(built)
    assert len({entry["question"] for entry in found}) == 12
    assert len({entry["question"] for entry in found if entry["source"] == "WVS"}) == 3
    assert built.ledger.dropped == {"not in the sample": 28}
    assert built.ledger.rows_kept == 12


def test_the_same_file_gives_the_same_bytes(tmp_path):
    source = save(tmp_path / "data.csv", plain())
    for name in ("a", "b"):
        card = write(build(source, Options()), tmp_path / name, Options())
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert files
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    assert card["splits"]["train"]["people"] == 0
    assert card["splits"]["train"]["groups"] == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + b"x" * 50, "zip archive"),
        (b"question,options\na,b\n", "lacks 2 column"),
        (b"question,selections,options,source\n", "no rows"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path, content, words):
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(BenchmarkError, match=words):
        build(tmp_path / "data.csv", Options())


def test_bom_semicolons_other_encodings_and_folders_are_read(tmp_path):
    rows = [row("Où?", {"France": GOOD})]
    assert len(rows_of(build(save(tmp_path / "a.csv", rows, delimiter=";", encoding="utf-8-sig"), Options()))) == 1
    (tmp_path / "folder").mkdir()
    save(tmp_path / "folder" / "b.csv", rows, encoding="cp1252")
    built = build(tmp_path / "folder", Options())
    assert rows_of(built)[0]["question"] == "Où?"
    assert built.ledger.noted["line not in UTF-8, read as Windows-1252"] == 1
    save(tmp_path / "folder" / "c.csv", rows)
    with pytest.raises(BenchmarkError, match="has 2 CSV files"):
        build(tmp_path / "folder", Options())


def test_mutated_files_never_crash(tmp_path):
    content = bytearray(save(tmp_path / "data.csv", plain(6)).read_bytes())
    rng = random.Random(0)
    path: Path = tmp_path / "mutated.csv"
    for _ in range(60):
        mutated = bytearray(content)
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(len(mutated))
            mutated[at : at + rng.randint(0, 3)] = bytes(
                rng.choices(b"'\"[]{}(),\n\\-*.0nN\x00\xff\xe9 a", k=rng.randint(0, 3))
            )
        path.write_bytes(mutated)
        try:
            built = build(path, Options())
        except BenchmarkError:
            continue
        whole = sum(n for why, n in built.ledger.dropped.items() if not why.startswith("country"))
        assert whole + built.ledger.rows_kept == built.ledger.rows_read
        assert all(abs(sum(entry["distribution"]) - 1) < 1e-9 for entry in rows_of(built))


@pytest.mark.parametrize(
    "text",
    ["DK/Refused", "Don't know (DO NOT READ)", "Don´t know", "Missing; Unknown", "No answer/Refused", "Refused",
     "Other missing; Multiple answers Mail (EVS)", "Missing; Not applicable for other reasons", "Not asked in survey",
     "Other missing; Not applicable; Multiple answers Mail (EVS)", "No opinion/depends", "Depends/DK", "N/A", "Missing",
     "INAP: No internet/no social media", "Can't rate (VOL)", "-9. Refused", "8 Don't know", "(Don't know)",
     "[VOL.] Don't know", "Not sure/Refused", "Don't know or refused", "98. DK", "Missing: Other", "No Answer."],
)  # fmt: skip
def test_no_answers(text):
    assert is_no_answer(text)


@pytest.mark.parametrize(
    "text",
    ["No", "Other/DK", "Refused to pay a bribe", "Neither", "Missing people", "Depends", "Not sure", "Hard to say", "-",
     "Not mentioned", "No opinion matters", "Never heard of (VOL)", "1", "(1)", "Missing children, refugees", "None"],
)  # fmt: skip
def test_answers(text):
    assert not is_no_answer(text)


@pytest.mark.parametrize(
    ("options", "ordinal"),
    [
        (SCALE[:4], True),
        (SCALE[3::-1], True),
        (["Strongly agree", "Agree", "Disagree", "Strongly disagree"], True),
        (["1 Never", "2", "3", "4 Always (VOL)"], True),
        (["1945", "1989", "2001"], False),
        (["Agree", "Disagree", "Neither agree nor disagree"], False),
        ([*SCALE[:4], "Depends (VOL)"], False),
        (["Yes", "No"], False),
        (["China", "Japan", "India"], False),
        (["10 % or less", "11 % to 20 %", "12 % and more"], False),
    ],
)
def test_only_known_scales_are_ordered(options, ordinal):
    assert is_ordinal(options) is ordinal
