"""Real people's answers to the questions of a poll: own data, a built folder, or a packaged benchmark's test people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuma.data.builders.built_folder import CARD, file_sum
from cuma.data.builders.own import understand
from cuma.data.builders.own_rows import WEIGHT
from cuma.data.builders.reading import existing, no_rows
from cuma.data.catalog import PACKAGED, is_folder, load_benchmark
from cuma.data.coded_answers import coded_people
from cuma.data.corpus import Corpus
from cuma.data.folder_design import drawn_labels
from cuma.data.surveys.survey import ALL, NO_ANSWER, Question
from cuma.errors import BenchmarkError, suggestion
from cuma.metrics.mean_variance import DrawnSample
from cuma.people.profiles import Profile

STRATUM, UNIT = "stratum", "unit"
FEWEST_OF = 0.25
"""Where weights leave fewer effective people than this share of the sample, intervals do not hold."""
TESTED = ("test", "unseen")
"""Splits whose people no training has seen."""


@dataclass(frozen=True)
class Answer:
    """One answer of one person."""

    person: str
    profile: Profile
    question: Question
    option: int
    weight: float
    stratum: str
    """"" where no strata are known."""
    unit: str
    """"" where people were drawn alone."""


@dataclass(frozen=True, eq=False)
class SampleAnswers:
    """What S real people answered to Q questions."""

    ids: tuple[str, ...]
    profiles: tuple[Profile, ...]
    answers: NDArray[np.int64]
    """[S, Q] the option chosen, `NO_ANSWER` where there is none."""
    design: DrawnSample
    noted: tuple[str, ...]
    """What a user should know of how it was read."""


def read_sample(source: str, questions: Sequence[Question], trained_on: str | None, seed: int = 0) -> SampleAnswers:
    """The answers to these questions.

    Args:
        source: a file in the form `survey` of own data, a built folder, or the name of a packaged benchmark. Beside
            weights it may have the columns stratum and unit (the sampling unit).
        questions: of the poll; found by their ids, with the same options in any order.
        trained_on: the benchmark of the run that is asked; None: it was not trained.
        seed: of that benchmark's split.

    Raises:
        BenchmarkError: it cannot be read, the run was trained on it, or nobody answered any of the questions.
    """
    if source in PACKAGED and not Path(source).exists():
        answers, noted = _of_benchmark(source, trained_on, seed)
    elif is_folder(source) and Path(source, CARD).is_file():
        answers, noted = _of_folder(source, trained_on)
    else:
        answers, noted = _of_file(existing(source), trained_on)
    return _aligned(answers, questions, source, noted)


def _sources(trained_on: str | None) -> set[str] | None:
    """SHA-256 sums of the files that a run's benchmark was built from; None: a folder that is gone."""
    if trained_on is None or not is_folder(trained_on):
        return set()
    if not Path(trained_on, CARD).is_file():
        return None
    return {source["sha256"] for source in Corpus.open(trained_on).card["sources"]}


def _unchecked(trained_on: str | None) -> list[str]:
    """What is left to whoever has the sample."""
    if trained_on is None:
        return []
    gone = " is not here any more, and" if _sources(trained_on) is None else ""
    return [f"none of the sample's people may be in the training split of {trained_on}, which{gone} cannot be compared"]


def _of_file(path: Path, trained_on: str | None) -> tuple[list[Answer], list[str]]:
    sources = _sources(trained_on)
    if sources and file_sum(path) in sources:
        raise BenchmarkError(
            f"The run was trained on people of {path}: what it says of them is no prediction, and no interval would "
            f"be valid. Take those whom it has not seen: --sample {trained_on}"
        )
    try:
        understood = understand(path)
    except BenchmarkError as error:
        raise BenchmarkError(f"{error} `cuma data build own` makes a folder of it, which --sample takes.") from error
    if understood.tasks != ("survey",):
        raise BenchmarkError(f"{path} holds no answers: expected the columns question, options and answer.")
    if not understood.rows:
        raise no_rows(path, understood.ledger)
    answers = [
        Answer(
            row.person,
            row.profile,
            _question(row.values),
            row.values["answer"],
            1.0 if row.weight is None else row.weight,
            *row.design,
        )
        for row in understood.rows
    ]
    dropped = [f"{reason}: {times}" for reason, times in understood.ledger.dropped.items()]
    odd = [*dropped, *(f"{what}: {times}" for what, times in understood.ledger.noted.items())]
    return answers, [*odd, *_unchecked(trained_on)]


def _of_folder(folder: str, trained_on: str | None) -> tuple[list[Answer], list[str]]:
    corpus = Corpus.open(folder)
    noted = _unchecked(trained_on)
    tested = trained_on is not None and _same_people(corpus, folder, trained_on)
    if tested:
        noted = [f"the run was trained on {folder}: only the people of its test splits are taken"]
    design = corpus.card.get("design") or {}
    if design.get("replicates"):
        noted = [*noted, f"the replicate weights of {folder} are not used here: weights, strata and units are"]
    drawn = drawn_labels(corpus.path, design)
    rows = _coded_rows(corpus) if corpus.card.get("answers") == ALL else _survey_rows(corpus)
    return [_of_row(row, drawn) for split, row in rows if not tested or split in TESTED], noted


def _survey_rows(corpus: Corpus) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(split, row) of every answer."""
    rows = corpus.rows("survey")
    if rows is None:
        raise BenchmarkError(f"{corpus.path} holds no survey answers. Build them with `cuma data build`.")
    return ((split, row) for split in rows for row in rows[split])


def _coded_rows(corpus: Corpus) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The same of a folder whose tables hold all answers, of which its task `survey` has a part."""
    questions, people = coded_people(corpus.path, corpus.card, "")
    for person in people.to_dict("records"):
        for one in questions:
            if person[one.id] != NO_ANSWER:
                yield person["split"], person | {"question_id": one.id, "answer": int(person[one.id]), **_wording(one)}


def _wording(question: Question) -> dict[str, Any]:
    return {"question": question.text, "options": question.options, "ordinal": question.ordinal}


def _same_people(corpus: Corpus, folder: str, trained_on: str) -> bool:
    """Whether a run's benchmark has the people of this folder, split in the same way.

    Raises:
        BenchmarkError: it has them, and split in another way.
    """
    if not is_folder(trained_on):
        if corpus.card["name"] != trained_on.partition("-")[0]:
            return False
        raise BenchmarkError(
            f"{folder} holds people of {trained_on}, on which the run was trained. Take those whom it has not seen: "
            f"--sample {trained_on}"
        )
    if _sources(trained_on) is None:
        return False
    other = Corpus.open(trained_on)
    if Path(folder).expanduser().resolve() == Path(trained_on).expanduser().resolve() or corpus.card == other.card:
        return True
    sums = [{source["sha256"] for source in each.card["sources"]} for each in (corpus, other)]
    if sums[0] & sums[1]:
        raise BenchmarkError(
            f"{folder} and {trained_on}, on which the run was trained, are made of the same people, in other splits. "
            f"Take --sample {trained_on}, whose test people the run has not seen."
        )
    return False


def _of_row(row: Mapping[str, Any], drawn: Mapping[str, tuple[str, str]]) -> Answer:
    weight = row.get(WEIGHT)
    own = (row["person_id"], Profile.parse(row["profile"]), _question(row), row["answer"])
    return Answer(*own, 1.0 if weight is None else weight, *drawn.get(row["person_id"], ("", "")))


def _of_benchmark(name: str, trained_on: str | None, seed: int) -> tuple[list[Answer], list[str]]:
    if trained_on not in (None, name) and str(trained_on).partition("-")[0] == name.partition("-")[0]:
        raise BenchmarkError(f"The run was trained on {trained_on}, which has people of {name}: --sample {trained_on}.")
    survey = load_benchmark(name, seed)
    profiles = {group.id: group.profile for group in survey.groups}
    people = survey.people[survey.people["part"] == "test"]
    weights = people["weight"] if survey.weighted else np.ones(len(people))
    answers = [
        Answer(str(person), profiles[group], question, option, float(weight), "", "")
        for question in survey.questions
        for person, group, option, weight in zip(
            people["person"], people["group"], people[question.id], weights, strict=True
        )
        if option != NO_ANSWER
    ]
    return answers, [f"the test people of {name}, each as one of their group"]


def _question(values: Mapping[str, Any]) -> Question:
    return Question(values["question_id"], values["question"], tuple(values["options"]), bool(values["ordinal"]))


def _aligned(
    answers: Iterable[Answer], questions: Sequence[Question], source: str, noted: Sequence[str]
) -> SampleAnswers:
    """One row a person, one column a question."""
    place = {question.id: number for number, question in enumerate(questions)}
    orders: dict[str, list[int]] = {}
    people: dict[str, tuple[int, Answer]] = {}
    cells: list[tuple[int, int, int]] = []
    aside: set[str] = set()
    otherwise: set[str] = set()
    for answer in answers:
        asked = answer.question.id
        if asked not in place:
            aside.add(asked)
            continue
        if asked not in orders:
            orders[asked] = _order(answer.question, questions[place[asked]], source)
            if answer.question.text != questions[place[asked]].text:
                otherwise.add(asked)
        row = people.setdefault(answer.person, (len(people), answer))[0]
        cells.append((row, place[asked], orders[asked][answer.option]))
    if not cells:
        nearest = suggestion(questions[0].id, sorted(aside)[:20])
        raise BenchmarkError(
            f"{source} has no answer to any of the questions. {nearest} Questions "
            "are matched by question_id, or by their words where there is none."
        )
    table = np.full((len(people), len(questions)), NO_ANSWER, dtype=np.int64)
    for row, column, option in cells:
        table[row, column] = option
    firsts = [answer for _, answer in people.values()]
    said = [f"the sample answers {len(aside)} more questions, which are not asked"] if aside else []
    said += [f"the sample was asked in other words: {', '.join(sorted(otherwise))}"] if otherwise else []
    without = [question.id for question in questions if question.id not in orders]
    said += [f"nobody in the sample answered: {', '.join(without)}"] if without else []
    design = _design(firsts, source)
    worth = DrawnSample.simple(design.weights).effective
    if worth < FEWEST_OF * len(firsts):
        said.append(
            f"the weights differ so much that {len(firsts)} people count as {worth:.0f}: intervals are too narrow"
        )
    return SampleAnswers(tuple(people), tuple(one.profile for one in firsts), table, design, (*noted, *said))


def _order(theirs: Question, ours: Question, source: str) -> list[int]:
    """Which of our options each of theirs is."""
    if sorted(theirs.options) != sorted(ours.options):
        lacking = next(iter([*(set(ours.options) - set(theirs.options)), *(set(theirs.options) - set(ours.options))]))
        raise BenchmarkError(
            f"{source}: {ours.id!r} has other options than the poll ({lacking!r} is in one of them only). Give both "
            "the same options in the same words."
        )
    return [ours.options.index(option) for option in theirs.options]


def _design(people: Sequence[Answer], source: str) -> DrawnSample:
    """How they were drawn. Raises BenchmarkError where only some people have a stratum or a unit."""
    columns = {STRATUM: [one.stratum for one in people], UNIT: [one.unit for one in people]}
    for name, texts in columns.items():
        if any(texts) and not all(texts):
            raise BenchmarkError(
                f"{source}: {texts.count('')} people have no {name}, and others have. Give it for all."
            )
    weights = np.array([one.weight for one in people])
    if not weights.any():
        raise BenchmarkError(f"{source}: every weight is 0.")
    numbers = {name: np.unique(texts, return_inverse=True)[1] for name, texts in columns.items()}
    unit = numbers[UNIT] if any(columns[UNIT]) else np.arange(len(people))
    return DrawnSample(weights, numbers[STRATUM], unit)
