"""WorldValuesBench: all coded answers of wave 7, and a sample of them as survey rows and as conversations."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value
from tqdm import tqdm

from cuma.data.builders.base import MESSAGES, SPLITS, TASKS, WHO, Built, Ledger, Options, Task, message
from cuma.data.builders.held_items import OF_PERSON, role_facts, with_roles, without_held
from cuma.data.builders.person_splits import UNSEEN, check_holdout, draw, held_out
from cuma.data.builders.reading import existing
from cuma.data.builders.wvb_codes import FIELDS, PROFILE_COLUMNS
from cuma.data.builders.wvb_reading import Respondents, probe_people, read
from cuma.data.builders.wvb_scales import Metadata, Scale, read_metadata
from cuma.data.surveys.prompts import LETTERS, NO_PERSONA
from cuma.data.surveys.splits import lot
from cuma.data.surveys.survey import NO_ANSWER, Question
from cuma.people.profiles import Profile

LICENCE = (
    "World Values Survey wave 7: free for non-profit use after registration, with citation, and not to be passed on "
    "(worldvaluessurvey.org). What is built here holds its answers: do not publish it."
)
CITATION = (
    "Haerpfer, C., Inglehart, R., Moreno, A., Welzel, C., Kizilova, K., Diez-Medrano J., M. Lagos, P. Norris, "
    "E. Ponarin & B. Puranen (eds.). 2022. World Values Survey: Round Seven – Country-Pooled Datafile. Madrid, Spain & "
    "Vienna, Austria: JD Systems Institute & WVSA Secretariat. doi:10.14281/18241.20. "
    "Zhao, W., Mondal, D., Tandon, N., Dillion, D., Gray, K. & Gu, Y. 2024. WorldValuesBench: A Large-Scale Benchmark "
    "Dataset for Multi-Cultural Value Awareness of Language Models. LREC-COLING."
)
FORMS = ("json", "letter")
"""How a question is put: WorldValuesBench's JSON, which tells of the person and is answered by a score, and lettered
options, which say nothing of the person (`told_who_asks` does) and are answered by a letter."""
SFT = Features({"prompt": MESSAGES, "completion": MESSAGES, "form": Value("string"), **WHO})


def build(source: Path, options: Options) -> Built:
    """All coded answers as tables, and at most `options.rows` of them as tasks.

    The tables "answers" hold a person a row: the common columns, then a column a question with the index of the option,
    −1 where it is missing; the table "questions" says what they mean. The tasks hold a sample, drawn by lot, in which
    every question and country has its share: `survey` once, `sft` in both `FORMS`, told apart by the column "form".

    The split is WorldValuesBench's own, whatever `options.seed` is; of the people in samples.tsv (its probe set) none
    stays in training.

    Args:
        source: a folder with the survey's CSV (or that file), or with WorldValuesBench's TSV tree; its metadata beside.
        options: sample counts people; as_released asks with the codebook's choices, wrong for 15 questions.

    Raises:
        BenchmarkError: something is missing, or is not what it should be.
    """
    source = existing(source)
    folder = source if source.is_dir() else source.parent
    metadata, files = read_metadata(folder, options.as_released)
    ledger = Ledger()
    people = read(source, metadata, ledger)
    probe, probe_files = probe_people(folder, ledger)
    profiles, profile_of = _profiles(people)
    check_holdout(options.holdout, profiles)
    unseen = np.array([held_out(profile, options.holdout) for profile in profiles], dtype=bool)[profile_of]
    people.split[unseen] = UNSEEN
    probing = np.isin(people.ids, list(probe)) if probe else np.zeros(len(people.ids), dtype=bool)
    leaves = probing & (people.split == "train")
    ledger.drop("probe person, kept out of training", int(leaves.sum()))
    drawn = _drawn(people, ~leaves, options)
    ledger.drop("person not in the sample", int((~leaves & ~drawn).sum()))
    people, profile_of = people.only(drawn), profile_of[drawn]
    ledger.keep(len(people.ids))
    asked = [Question(scale.id, scale.text, scale.options, scale.ordinal) for scale in metadata.scales]
    questions = with_roles(asked, options, ledger)
    people.answers, lost = without_held(people.answers, people.split, questions, NO_ANSWER)
    ledger.drop(OF_PERSON, lost)
    known = _Known(metadata, people, profiles, profile_of)
    facts = {
        "splits": _splits(people),
        "questions": len(metadata.scales),
        "forms": list(FORMS),
        "as_released": options.as_released,
        **role_facts(questions, options),
        "probe_people": {"named": len(probe), "left_out_of_training": int(leaves.sum())},
    }
    return Built(
        name="wvb",
        tasks=known.tasks(*_cells(people, metadata, options), options),
        ledger=ledger,
        sources=(*people.sources, *files, *probe_files),
        licence=LICENCE,
        citation=CITATION,
        facts=facts,
        tables={"answers": known.answers(), "questions": {"questions": _questions(metadata)}},
    )


# --- people ----------------------------------------------------------------------------------------------------------


def _profiles(people: Respondents) -> tuple[list[Profile], np.ndarray]:
    """The distinct profiles, and each person's place among them."""
    distinct, place = np.unique(people.fields, axis=0, return_inverse=True)
    words = [people.vocabulary[name] for name in FIELDS]
    profiles = [
        Profile(**{name: texts[code] for name, texts, code in zip(FIELDS, words, row, strict=True) if code >= 0})
        for row in distinct.tolist()
    ]
    return profiles, place.reshape(-1)


def _countries(people: Respondents) -> np.ndarray:
    names = np.array(people.vocabulary["country"], dtype=object)
    return names[people.fields[:, FIELDS.index("country")]] if len(people.ids) else np.empty(0, dtype=object)


def _drawn(people: Respondents, stays: np.ndarray, options: Options) -> np.ndarray:
    if options.sample is None:
        return stays
    group_of = dict(zip(people.ids[stays].tolist(), _countries(people)[stays].tolist(), strict=True))
    chosen = draw(group_of, options.sample, options.seed)
    return stays & np.array([name in chosen for name in people.ids], dtype=bool)


def _splits(people: Respondents) -> dict[str, dict[str, int]]:
    countries = people.fields[:, FIELDS.index("country")]
    result = {}
    for split in SPLITS:
        inside = people.split == split
        if inside.any():
            result[split] = {
                "people": int(inside.sum()),
                "groups": len(np.unique(countries[inside])),
                "answers": int((people.answers[inside] >= 0).sum()),
            }
    return result


# --- the sample ------------------------------------------------------------------------------------------------------


def _cells(people: Respondents, metadata: Metadata, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Rows (people) and columns (questions) of at most `options.rows` answers, in an order by lot.

    Answers stand in line by split, question and country, within these by lot, and every so-and-so-many-th is taken:
    each split, question and country has its share. A lot belongs to a person and a question, wherever they stand.
    """
    total = int((people.answers >= 0).sum())
    size = max(0, min(options.rows, total))
    if not size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    start = lot("rows", options.seed, "rows")
    wanted = np.minimum(((np.arange(size) + start) * total / size).astype(np.int64), total - 1)
    names = people.vocabulary["country"]
    rank = np.array([sorted(names).index(name) for name in names])[people.fields[:, FIELDS.index("country")]]
    by_person = np.array([_seed(name) for name in people.ids], dtype=np.uint64)
    by_question = [np.uint64(_seed(f"{options.seed}\0{scale.id}")) for scale in metadata.scales]
    rows, columns, lots, passed = [], [], [], 0
    for split in SPLITS:
        inside = np.flatnonzero(people.split == split)
        for question, salt in enumerate(by_question):
            there = inside[people.answers[inside, question] >= 0]
            first, last = np.searchsorted(wanted, [passed, passed + len(there)])
            if first < last:
                drawn = _mixed(by_person[there] ^ salt)
                taken = np.lexsort((drawn, rank[there]))[wanted[first:last] - passed]
                rows.append(there[taken])
                columns.append(np.full(last - first, question))
                lots.append(drawn[taken])
            passed += len(there)
    order = np.argsort(np.concatenate(lots), kind="stable")
    return np.concatenate(rows)[order], np.concatenate(columns)[order]


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: neighbours become unrelated 64-bit numbers, the same on every machine."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# --- tables and tasks ------------------------------------------------------------------------------------------------


class _Known:
    """People and questions as arrow arrays, from which every table takes its rows."""

    def __init__(
        self, metadata: Metadata, people: Respondents, profiles: list[Profile], profile_of: np.ndarray
    ) -> None:
        self.people, self.scales, self.profile_of, self.profiles = people, metadata.scales, profile_of, profiles
        self.asked = metadata.asked
        common = TASKS["survey"].arrow_schema
        self.profile = pa.array(
            [{name: getattr(profile, name) for name in WHO["profile"]} for profile in profiles],
            type=common.field("profile").type,
        )
        self.sentence = pa.array([profile.sentence for profile in profiles], type=pa.string())
        self.person = pa.array(people.ids, type=pa.string())
        self.country = pa.array(_countries(people), type=pa.string())

    def who(self, rows: np.ndarray) -> dict[str, Any]:
        """The common columns of some people."""
        return {
            "profile": self.profile.take(pa.array(self.profile_of[rows])),
            "profile_text": self.sentence.take(pa.array(self.profile_of[rows])),
            "person_id": self.person.take(pa.array(rows)),
            "group": self.country.take(pa.array(rows)),
        }

    def answers(self) -> dict[str, pa.Table]:
        """Split → all coded answers."""
        tables = {}
        for split in SPLITS:
            rows = np.flatnonzero(self.people.split == split)
            if len(rows):
                coded = np.asfortranarray(self.people.answers[rows])
                columns = {scale.id: pa.array(coded[:, place]) for place, scale in enumerate(self.scales)}
                tables[split] = pa.table(self.who(rows) | columns)
        return tables

    def tasks(self, rows: np.ndarray, columns: np.ndarray, options: Options) -> dict[Task, dict[str, Dataset]]:
        """The tasks of some answers: people `rows`, questions `columns`."""
        tasks: dict[Task, dict[str, Dataset]] = {"survey": {}, "sft": {}}
        split_of = self.people.split[rows]
        for split in SPLITS:
            inside = split_of == split
            if inside.any():
                tasks["survey"][split] = self._survey(rows[inside], columns[inside])
                tasks["sft"][split] = self._conversations(rows[inside], columns[inside])
        return tasks

    def _survey(self, rows: np.ndarray, columns: np.ndarray) -> Dataset:
        scales, at = self.scales, pa.array(columns)
        texts = pa.array([list(scale.options) for scale in scales], type=pa.list_(pa.string()))
        data = {
            "question_id": pa.array([scale.id for scale in scales]).take(at),
            "question": pa.array([scale.text for scale in scales]).take(at),
            "options": texts.take(at),
            "answer": pa.array(self.people.answers[rows, columns].astype(np.int64)),
            "ordinal": pa.array([scale.ordinal for scale in scales]).take(at),
            **self.who(rows),
        }
        return _dataset(data, TASKS["survey"])

    def _conversations(self, rows: np.ndarray, columns: np.ndarray) -> Dataset:
        prompts, completions = [], []
        answers = self.people.answers[rows, columns].tolist()
        cells = zip(self.profile_of[rows].tolist(), columns.tolist(), answers, strict=True)
        for place, column, answer in tqdm(cells, desc="Write conversations", total=len(rows), unit=" rows"):
            scale, profile = self.scales[column], self.profiles[place]
            prompts += [_json_prompt(scale, _interview(self.asked, profile)), _letter_prompt(scale)]
            score = json.dumps({_SCORE: scale.scores[answer]})
            completions += [[message("assistant", score)], [message("assistant", LETTERS[answer])]]
        schema = SFT.arrow_schema
        data = {
            "prompt": pa.array(prompts, type=schema.field("prompt").type),
            "completion": pa.array(completions, type=schema.field("completion").type),
            "form": pa.array(list(FORMS) * len(rows)),
            **self.who(np.repeat(rows, len(FORMS))),
        }
        return _dataset(data, SFT)


def _dataset(data: dict[str, Any], features: Features) -> Dataset:
    schema = features.arrow_schema
    return Dataset(pa.Table.from_arrays([data[name] for name in schema.names], schema=schema))


def _questions(metadata: Metadata) -> pa.Table:
    scales = metadata.scales
    return pa.table(
        {
            "question_id": [scale.id for scale in scales],
            "question": [scale.text for scale in scales],
            "options": [list(scale.options) for scale in scales],
            "scores": [list(scale.scores) for scale in scales],
            "ordinal": [scale.ordinal for scale in scales],
            "category": [scale.category for scale in scales],
        }
    )


# --- prompts ---------------------------------------------------------------------------------------------------------

_SCORE = "answer as a score"


def _interview(asked: dict[str, str], profile: Profile) -> str:
    """What the person said about themselves, as questions and answers."""
    told = [
        f"{asked.get(column, name)}\nAnswer: {value}"
        for column, name in PROFILE_COLUMNS.items()
        if (value := getattr(profile, name)) is not None
    ]
    numbered = [f"{number}. Question: {text}" for number, text in enumerate(told, start=1)]
    return "\n".join(["Person X provided the following demographic information in an interview:", *numbered, "", ""])


def _json_prompt(scale: Scale, interview: str) -> list[dict[str, str]]:
    options = [
        option if option.startswith(str(score)) else f"{score}: {option}"
        for score, option in zip(scale.scores, scale.options, strict=True)
    ]
    asks = ["What would Person X answer to the following question?", f"Question: {scale.text}", *options]
    form = ["", "Your output should be in the following format:", json.dumps({_SCORE: "... score ..."})]
    return [message("user", interview + "\n".join([*asks, *form]))]


def _letter_prompt(scale: Scale) -> list[dict[str, str]]:
    options = [f"{LETTERS[place]}. {option}" for place, option in enumerate(scale.options)]
    asks = "\n".join([scale.text, *options, "Answer with one letter."])
    return [message("system", NO_PERSONA), message("user", asks)]
