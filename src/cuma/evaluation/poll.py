"""Questions put to people who are only described: what a model expects each of them to answer.

The numbers are those of the server's /v1/opinions and of an evaluation: every question in all its letter orders. People
of one profile are asked once. What was answered is kept beside the output until that is written, in a log without
a word of anybody's: probabilities, and a keyed hash of all that was asked.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from cuma.answering.answerer import Answerer
from cuma.answering.letters import SurveyTokens, mean_over_orders
from cuma.data.surveys.prompts import question_orders, survey_messages
from cuma.data.surveys.survey import Question
from cuma.errors import RunError
from cuma.evaluation.answer_log import AnswerLog
from cuma.evaluation.predict import LocalModel
from cuma.metrics.pointwise import Floats
from cuma.models.hub import cache_folder
from cuma.models.trunk import FrozenTrunk
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import Profile
from cuma.privacy.secret import keyed_hash
from cuma.runs.writer_lock import writing
from cuma.tuner.manifest import sha256

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Expected:
    """What a model expects of P people's answers to one question with m options."""

    probabilities: Floats
    """[P, m]; rows sum to 1."""
    option_mass: Floats
    """[P]: the letters' probability before renormalising."""

    def of(self, rows: slice) -> Expected:
        """Of some of the people."""
        return Expected(self.probabilities[rows], self.option_mass[rows])


class PollRows(Sequence[Row]):
    """A row for every question, distinct profile and letter order, in that order, made when it is looked at."""

    def __init__(self, questions: Sequence[Question], profiles: Sequence[Profile], in_prompt: bool) -> None:
        self._questions, self._profiles, self._in_prompt = questions, profiles, in_prompt
        self._orders = [question_orders(question) for question in questions]
        self.starts = np.cumsum([0, *(len(orders) * len(profiles) for orders in self._orders)])
        """[Q+1]: where each question's rows start."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        orders = self._orders[number]
        person, which = divmod(place - int(self.starts[number]), len(orders))
        profile = self._profiles[person]
        persona = profile.sentence if self._in_prompt else None
        return {
            "order": list(orders[which]),
            "prompt": survey_messages(self._questions[number], orders[which], persona),
            "profile": profile.fields,
        }


@dataclass(frozen=True, eq=False)
class Poll:
    """A model, and what it is asked of whom."""

    answerer: Answerer
    questions: Sequence[Question]
    profiles: Sequence[Profile]
    batch_size: int = 32
    """Prompts in one forward."""

    def __post_init__(self) -> None:
        """Raises ProfileError for people described to a model that reads no profile, BenchmarkError for a tokenizer
        that splits letters."""
        if not self.answerer.reads_profile:
            self.answerer.embeds([next(filter(None, self.profiles), Profile())])
        self._tokens.letters(max(len(question.options) for question in self.questions))

    @property
    def _tokens(self) -> SurveyTokens:
        return SurveyTokens(self.answerer.tokenizer, self.answerer.source.padding_side)

    @property
    def _shown(self) -> list[Question]:
        """The questions, with their options in the orders that the model was trained to see."""
        return [replace(one, option_orders=self.answerer.source.option_orders) for one in self.questions]

    @cached_property
    def _distinct(self) -> dict[Profile, int]:
        """Each distinct profile's place."""
        return {profile: place for place, profile in enumerate(dict.fromkeys(self.profiles))}

    def expected(self, log: AnswerLog, progress: str | None) -> list[Expected]:
        """For each question what everybody is expected to answer, in the order of `profiles`. What the log knows is not
        asked again."""
        answerer, profiles = self.answerer, list(self._distinct)
        table = None if answerer.encoder is None else ProfileTable(answerer.encoder, profiles)
        rows = PollRows(self._shown, profiles, answerer.profile_in_prompt)
        answerer.activate()
        asking = LocalModel(answerer.model, self._tokens, table, self.batch_size)
        keeps = answerer.source.backbone.keep_frozen_layers and not answerer.profile_in_prompt
        with FrozenTrunk(answerer.model) if keeps else contextlib.nullcontext():
            said, _ = asking.answer(rows, progress, log, record=False)
        places = [self._distinct[profile] for profile in self.profiles]
        return [
            _merged(said[start:end], len(profiles), places)
            for start, end in zip(rows.starts[:-1], rows.starts[1:], strict=True)
        ]

    def key(self) -> str:
        """A keyed hash of all that an answer depends on; nobody can guess from it who was asked."""
        asked = [[question.text, question.options, question_orders(question)] for question in self._shown]
        people = [profile.fields for profile in self._distinct]
        text = json.dumps([asked, people, self.batch_size, _identity(self.answerer)], default=str)
        folder = cache_folder() / "polls"
        try:
            return keyed_hash(text, folder, "cuma-poll").hex()[:32]
        except OSError as error:
            raise RunError(f"No secret can be kept in {folder} ({error}). Set CUMA_CACHE to a writable one.") from error


def _merged(said: Sequence[np.ndarray], people: int, places: Sequence[int]) -> Expected:
    """One question's answers [distinct × orders] as those of everybody."""
    orders = len(said) // people
    each = [mean_over_orders(said[start : start + orders]) for start in range(0, len(said), orders)]
    return Expected(
        np.stack([shares for shares, _ in each])[places],
        np.array([mass for _, mass in each])[places],
    )


def _identity(answerer: Answerer) -> list[Any]:
    """What tells this model from another, and this machine's way of running it."""
    source, backbone = answerer.source, answerer.backbone
    weights: list[Any] = []
    if source.adapter is not None:
        weights = [sha256(file) for file in sorted(source.adapter.glob("*.safetensors"))]
    if Path(source.backbone.model_name_or_path).is_dir():
        files = sorted(Path(source.backbone.model_name_or_path).glob("*.safetensors"))
        weights += [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    first = next(answerer.model.parameters())
    return [backbone.name, backbone.revision, source.backbone, source.profile_in, weights, first.dtype, first.device]


def progress_folder(output: Path) -> Path:
    """Where a poll keeps what was answered until its output is written."""
    return output.with_name(f".{output.name}.cuma-predict")


@contextmanager
def kept_answers(output: Path, key: str) -> Iterator[AnswerLog]:
    """The log of a poll with that key beside its output; it is gone when the context ends well.

    Raises:
        RunError: another process writes this output, or the folder cannot be written.
    """
    folder = progress_folder(output)
    with writing(folder):
        yield AnswerLog(folder / "answers.jsonl", key)
    shutil.rmtree(folder)
