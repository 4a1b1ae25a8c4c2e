"""Held-out conversations and preference pairs: how likely a model finds what people wrote and chose. No judge is asked.

A reply's log-probability is the sum over its tokens as training sees them: the reply and the end of its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from cuma.answering.letters import SurveyTokens
from cuma.answering.materials import Data, Materials, load_survey, profile_in_prompt
from cuma.data.corpus import Corpus
from cuma.data.surveys.prompts import told_who_asks
from cuma.errors import BenchmarkError, RunError
from cuma.evaluation.answer_log import AnswerLog, fingerprint
from cuma.evaluation.asking import asking_of, load_model
from cuma.evaluation.evaluation_files import write_parquet
from cuma.evaluation.predict import LocalModel
from cuma.evaluation.subject import Subject
from cuma.metrics.reply_scores import reply_differences, reply_scores
from cuma.models.chat_template import conversation_tokens
from cuma.people.profiles import Profile
from cuma.runs.folder import Run, read_json, write_json
from cuma.runs.writer_lock import writing

NAME = "conversations"
"""Of the files beside an evaluation's scores."""
REPLIES = {"sft": ("completion",), "dpo": ("chosen", "rejected")}
"""Task → the columns whose replies are scored."""
SPLITS = ("test", "unseen")
TOKENS = 2048
"""At most so many tokens in a batch of several replies: their logits are held in memory."""


@dataclass(frozen=True)
class Reply:
    """One reply to score."""

    tokens: list[int]
    """Of the whole conversation."""
    start: int
    """Where the reply begins."""
    profile: Any


def held_out(corpus: Corpus) -> list[dict[str, Any]]:
    """The test people's conversations and pairs: task, person, group, seen, profile, prompt and the task's replies."""
    found = []
    for task, columns in REPLIES.items():
        splits = corpus.rows(task) or {}
        for split in SPLITS:
            for row in splits.get(split, ()):
                if row["person_id"] is None or row.get("form", "letter") != "letter":
                    continue  # of a whole group, or WorldValuesBench's other form
                about = {"task": task, "person": row["person_id"], "group": row["group"], "seen": split != "unseen"}
                found.append({**about, **{name: row[name] for name in ("profile", "prompt", *columns)}})
    return found


def evaluate_conversations(subject: Subject, materials: Materials | None = None) -> dict[str, Any]:
    """Score the test people's conversations and pairs; written to conversations.json and .parquet in the evaluation.

    An evaluation that was stopped goes on where it was; a finished one is left alone.

    Returns:
        As `reply_scores`, and "benchmark", "rows" (a digest of what was scored), "left_out", "asked".

    Raises:
        BenchmarkError: the benchmark has no conversations or pairs of test people.
    """
    recipe = subject.recipe
    data = load_survey(recipe) if materials is None else Data(materials.survey, materials.corpus)
    rows = [] if data.corpus is None else held_out(data.corpus)
    if not rows:
        raise BenchmarkError(f"{recipe.data.benchmark} has no conversations or preference pairs of test people.")
    folder = subject.run.evaluation(data.survey.name, recipe.digest)
    adapter = subject.run.info.get("adapter", {}).get("sha256")
    digest = fingerprint(rows, recipe.digest, adapter)
    file = folder / f"{NAME}.json"
    if file.is_file() and read_json(file)["asked"]["digest"] == digest:
        return read_json(file)
    subject.require_local()
    with writing(subject.run.path):
        log = AnswerLog(folder / f"{NAME}.jsonl", digest)
        table = _scored(subject, materials or Materials.load(recipe, data), rows, log)
        kept = table.dropna(subset="own")
        asked = {"prompting": subject.prompting, "digest": digest}
        about = {"benchmark": data.survey.name, "rows": fingerprint(rows), "left_out": len(table) - len(kept)}
        result = {**reply_scores(kept), **about, "asked": asked}
        write_parquet(folder / f"{NAME}.parquet", kept)
        write_json(file, result)
        log.close()
        subject.run.update(status="evaluated")
    return result


def _scored(subject: Subject, materials: Materials, rows: Sequence[dict[str, Any]], log: AnswerLog) -> pd.DataFrame:
    """The table that `reply_scores` takes; NaN where a row is longer than the model reads."""
    label, pairs = subject.run.info["label"], [place for place, row in enumerate(rows) if row["task"] == "dpo"]
    table = pd.DataFrame([{name: row[name] for name in ("task", "person", "group", "seen")} for row in rows])
    table["person"] = pd.factorize(table["person"])[0]  # a running number, not the data's own id
    table["row"] = table.index
    with load_model(subject, materials) as model:
        asking = asking_of(model, subject.recipe, materials, materials.survey)
        if asking.table is not None:
            asking = replace(asking, table=asking.table.covering(row["profile"] for row in rows))
        first, second = (list(_replies(rows, side, asking.tokens, subject)) for side in (0, 1))
        longest = getattr(model.config, "max_position_embeddings", None) or float("inf")
        fits = [all(len(reply.tokens) <= longest for reply in (a, b)) for a, b in zip(first, second, strict=True)]
        every, pairs = [place for place in range(len(rows)) if fits[place]], [place for place in pairs if fits[place]]
        table.loc[every, "tokens"] = [len(first[place].tokens) - first[place].start for place in every]
        jobs = {"own": (first, every), "own_rejected": (second, pairs)}
        for column, (replies, places) in jobs.items():
            table.loc[places, column] = log_probabilities(asking, [replies[n] for n in places], log, column, label)
        jobs = {"reference": (first, pairs), "reference_rejected": (second, pairs)}
        for column, (replies, places) in jobs.items():
            if subject.source.adapter is None:
                table.loc[places, column] = table.loc[places, column.replace("reference", "own")]
                continue
            with model.disable_adapter():
                bare = replace(asking, table=None)
                table.loc[places, column] = log_probabilities(bare, [replies[n] for n in places], log, column, label)
    return table


def _replies(rows: Sequence[dict[str, Any]], side: int, tokens: SurveyTokens, subject: Subject) -> Iterator[Reply]:
    """The first or second reply of each row, in the prompt as it was trained; a conversation's one reply is both."""
    in_prompt = profile_in_prompt(subject.recipe)
    for row in rows:
        prompt = told_who_asks(row["prompt"], Profile.parse(row["profile"]).sentence if in_prompt else "")
        opened = tokens.prompt(prompt)
        reply = row[REPLIES[row["task"]][min(side, len(REPLIES[row["task"]]) - 1)]]
        whole = conversation_tokens(tokens.tokenizer, [*prompt, *reply], open_reply=False)
        same = next((n for n, (one, two) in enumerate(zip(opened, whole, strict=False)) if one != two), len(opened))
        yield Reply(whole, same, row["profile"])


def log_probabilities(
    asking: LocalModel,
    replies: Sequence[Reply],
    log: AnswerLog | None = None,
    key: str = "",
    progress: str | None = None,
) -> list[float]:
    """The log-probability of each reply, in nats: the sum over its tokens.

    It does not depend on which replies are scored together, beyond rounding. log: what was scored so far, under `key`.
    """
    found: dict[int, float] = {}
    batches = list(_batches(replies, asking.batch_size))
    for number, places in enumerate(tqdm(batches, desc=f"{progress}: {key}", unit="batch", disable=progress is None)):
        done = None if log is None else log.get(f"{key} {number}")
        if done is None:
            done = _batch(asking, [replies[place] for place in places])
            if log is not None:
                log.put(f"{key} {number}", done)
        found.update(zip(places, done, strict=True))
    return [found[place] for place in range(len(replies))]


def _batches(replies: Sequence[Reply], most: int) -> Iterator[list[int]]:
    """Places of replies of similar length."""
    batch: list[int] = []
    for place in sorted(range(len(replies)), key=lambda place: len(replies[place].tokens)):
        if batch and (len(batch) == most or (len(batch) + 1) * len(replies[place].tokens) > TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@torch.no_grad()
def _batch(asking: LocalModel, replies: Sequence[Reply]) -> list[float]:
    padded = SurveyTokens(asking.tokens.tokenizer, "right").batch([reply.tokens for reply in replies])
    device = next(asking.model.parameters()).device
    batch = {name: padded[name].to(device) for name in ("input_ids", "attention_mask", "position_ids")}
    people = {} if asking.table is None else {"profile_embeds": asking.table([reply.profile for reply in replies])}
    before = torch.arange(min(reply.start for reply in replies) - 1, batch["input_ids"].shape[1] - 1, device=device)
    logits = asking.model(**batch, logits_to_keep=before, use_cache=False, **people).logits
    begin = torch.tensor([reply.start for reply in replies], device=device)[:, None]
    end = torch.tensor([len(reply.tokens) for reply in replies], device=device)[:, None]
    own = (before + 1 >= begin) & (before + 1 < end)
    losses = torch.zeros(own.shape, device=device)
    losses[own] = cross_entropy(logits[own].float(), batch["input_ids"][:, 1:][:, before][own], reduction="none")
    return [-float(loss) for loss in losses.double().sum(dim=1)]


def evaluate_reply_differences(subject: Subject, others: Sequence[Path]) -> dict[str, Any]:
    """Every figure of this run's conversations minus each other run's, written to conversation_differences.json.

    Raises:
        RunError: another run did not score these conversations, or two have one name.
    """
    folder = subject.folder
    own, tables = read_json(folder / f"{NAME}.json"), {}
    for other in others:
        run = Run.open(other)
        if run.info["name"] in tables:
            raise RunError(f"Two of the other runs are called {run.info['name']!r}. Compare with one of them.")
        files = (run.path / "evaluations").glob(f"*/{NAME}.json")
        theirs = run.chosen((file.parent for file in files if read_json(file)["rows"] == own["rows"]), f"{NAME}.json")
        if theirs is None:
            raise RunError(
                f"{run.path} did not score the conversations of {own['benchmark']}. Evaluate it on these data first."
            )
        tables[run.info["name"]] = pd.read_parquet(theirs / f"{NAME}.parquet").set_index("row")
    table = pd.read_parquet(folder / f"{NAME}.parquet").set_index("row")
    common = sorted(set(table.index).intersection(*(other.index for other in tables.values())))
    differences = reply_differences(table.loc[common], {name: its.loc[common] for name, its in tables.items()})
    sizes = {side: {name: own[side][name]["n"] for name in own[side]} for side in ("seen", "unseen") if side in own}
    result = {"run": subject.run.info["name"], "n": sizes, "differences": differences}
    write_json(folder / "conversation_differences.json", result)
    return result
