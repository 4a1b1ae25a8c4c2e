"""`cuma evaluate --replies N`: what a model writes to people, and how varied that is."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from cuma.answering.materials import Materials, load_survey, profile_in_prompt
from cuma.data.corpus import Corpus
from cuma.data.surveys.prompts import told_who_asks
from cuma.data.surveys.survey import Survey
from cuma.errors import BenchmarkError, RunError
from cuma.evaluation.answer_log import AnswerLog, fingerprint
from cuma.evaluation.asking import TEST_ROLES, asking_of, load_model
from cuma.evaluation.evaluation_files import write_parquet
from cuma.evaluation.predict import LocalModel
from cuma.evaluation.remote import with_profile
from cuma.evaluation.subject import Subject
from cuma.metrics.diversity import diversity
from cuma.models.endpoint import Endpoint
from cuma.models.hub import cache_folder
from cuma.people.profiles import Profile
from cuma.privacy.secret import keyed_hash
from cuma.runs.folder import read_json, write_json
from cuma.runs.writer_lock import writing

MAX_TOKENS = 128
"""The longest reply."""
SPLITS = ("test", "unseen")
OPEN = "Answer in one or two sentences."
HASH = "prompt_hash"
ABOUT = ("row", "person", "group", "chosen", HASH)

Write = Callable[[list[dict[str, Any]], AnswerLog, str], list[str]]
"""(rows, what was written so far, label of the bar) → a reply for each."""


def evaluate_replies(subject: Subject, count: int, write: Write | None = None, seed: int = 0) -> dict[str, Any]:
    """Let a model reply to at most `count` prompts; replies.parquet and replies.json go into its evaluation's folder.

    Replies to the same prompts that are there already are left alone; only `prompt_hash` is brought up to date.

    Prompts are those of the benchmark's test people (tasks dpo, sft or grpo of a built folder), or, of a survey, its
    questions asked openly of every group.

    Args:
        subject: the model, and how it is told who asks.
        count: of prompts, drawn with the seed.
        write: how replies are got; None: from the model on this machine.
        seed: of the draw.

    Returns:
        {"distinct_1", "distinct_2", "self_bleu", "budget", "blocks", "texts", …}.

    Raises:
        BenchmarkError: there is nothing to reply to.
    """
    survey, corpus = load_survey(subject.recipe)
    folder = subject.run.evaluation(survey.name, subject.recipe.digest)
    rows = prompts(survey, corpus, count, in_prompt=profile_in_prompt(subject.recipe), seed=seed)
    adapter = subject.run.info.get("adapter", {}).get("sha256")
    content = [{name: value for name, value in row.items() if name != HASH} for row in rows]
    digest = fingerprint(content, subject.recipe.digest, adapter, MAX_TOKENS)
    if (folder / "replies.json").is_file() and read_json(folder / "replies.json")["asked"] == digest:
        table = replies_of(folder)
        hashes = [row[HASH] for row in rows]
        if HASH not in table or table[HASH].tolist() != hashes:
            write_parquet(folder / "replies.parquet", table.assign(**{HASH: hashes}))
        return read_json(folder / "replies.json")
    with writing(subject.run.path):
        log = AnswerLog(folder / "replies.jsonl", digest)
        label = f"{subject.run.info['label']}: replying"
        replies = (write or _on_this_machine(subject))(rows, log, label)
        about = [{name: row[name] for name in ABOUT} for row in rows]
        table = pd.DataFrame(about).assign(reply=replies)
        table["person"] = pd.factorize(table["person"])[0]  # a running number, not the data's own id; -1: a whole group
        write_parquet(folder / "replies.parquet", table)
        result = {**diversity(replies, seed=seed), "seed": seed, "max_tokens": MAX_TOKENS, "asked": digest}
        write_json(folder / "replies.json", result)
        log.close()
    return result


# --- prompts ---------------------------------------------------------------------------------------------------------


def prompts(survey: Survey, corpus: Corpus | None, count: int, *, in_prompt: bool, seed: int) -> list[dict[str, Any]]:
    """At most `count` rows: row (its number), person, group, profile, prompt, its hash, and chosen, what the person
    preferred. Raises BenchmarkError if there is nobody to reply to, RunError if the hash's secret cannot be kept."""
    rows = _conversations(corpus) if corpus is not None else None
    rows = rows or _open_questions(survey)
    if not rows:
        raise BenchmarkError(f"{survey.name} has no test people to reply to.")
    drawn = sorted(np.random.default_rng([seed, 5]).permutation(len(rows))[:count].tolist())
    drawn_rows = []
    for number in drawn:
        row = rows[number]
        profile = Profile.parse(row["profile"])
        prompt = told_who_asks(row["prompt"], profile.sentence if in_prompt else "")
        key = _hash(row["prompt"], profile)
        drawn_rows.append({**row, "row": number, "prompt": prompt, "profile": profile.fields, HASH: key})
    return drawn_rows


def _hash(prompt: Any, profile: Profile) -> str:
    """What a prompt and whoever asks are known by on this machine, however a model is told of them.

    Under the secret in `replies/` of cuma's cache: a folder of replies alone lets nobody check a guess.
    """
    text = json.dumps([prompt, profile.fields], sort_keys=True, default=str)
    try:
        return keyed_hash(text, cache_folder() / "replies", "cuma-prompt").hex()[:32]
    except OSError as error:
        raise RunError(
            f"The secret under which prompts are hashed cannot be kept in {cache_folder() / 'replies'} "
            f"({type(error).__name__}). Set CUMA_CACHE to a folder that can be written."
        ) from error


def _conversations(corpus: Corpus) -> list[dict[str, Any]] | None:
    """A built folder's prompts, each distinct prompt of a person once."""
    for task in ("dpo", "sft", "grpo"):
        splits = corpus.rows(task)
        if splits is not None:
            rows = [row for split in SPLITS if split in splits for row in splits[split] if _is_lettered(row)]
            distinct = {repr((row["person_id"], row["prompt"])): row for row in rows}
            return [
                {
                    "person": row["person_id"],
                    "group": row["group"],
                    "profile": row["profile"],
                    "prompt": row["prompt"],
                    "chosen": _text(row.get("chosen") or row.get("completion")),
                }
                for row in distinct.values()
            ]
    return None


def _is_lettered(row: dict[str, Any]) -> bool:
    """WorldValuesBench's other form wants JSON, and tells of the person in its message."""
    return row.get("form", "letter") == "letter"


def _text(messages: Any) -> str | None:
    return messages[-1]["content"] if messages else None


def _open_questions(survey: Survey) -> list[dict[str, Any]]:
    return [
        {
            "person": None,
            "group": group.id,
            "profile": group.profile,
            "prompt": [{"role": "user", "content": f"{question.text} {OPEN}"}],
            "chosen": None,
        }
        for group in survey.groups
        if group.role in TEST_ROLES
        for question in survey.with_roles(TEST_ROLES)
    ]


# --- replies ---------------------------------------------------------------------------------------------------------


def _on_this_machine(subject: Subject) -> Write:
    def write(rows: list[dict[str, Any]], log: AnswerLog, progress: str) -> list[str]:
        subject.require_local()
        materials = Materials.load(subject.recipe)
        with load_model(subject, materials) as model:
            asking = asking_of(model, subject.recipe, materials, materials.survey)
            return _generated(asking, rows, log, progress)

    return write


def _generated(asking: LocalModel, rows: list[dict[str, Any]], log: AnswerLog, progress: str) -> list[str]:
    """Greedy replies, batch by batch, padded on the left."""
    tokenizer = asking.tokens.tokenizer
    table = None if asking.table is None else asking.table.covering(row["profile"] for row in rows)
    replies: list[str] = []
    for start in tqdm(range(0, len(rows), asking.batch_size), desc=progress, unit="batch"):
        done = log.get(str(start))
        if done is None:
            part = rows[start : start + asking.batch_size]
            ids = {"input_ids": [asking.tokens.prompt(row["prompt"]) for row in part]}
            batch = tokenizer.pad(ids, return_tensors="pt", padding_side="left")
            batch = batch.to(next(asking.model.parameters()).device)
            people = {} if table is None else {"profile_embeds": table([row["profile"] for row in part])}
            with torch.no_grad():
                out = asking.model.generate(
                    **batch, **people, do_sample=False, max_new_tokens=MAX_TOKENS, pad_token_id=tokenizer.pad_token_id
                )
            new = out[:, batch["input_ids"].shape[1] :]
            done = [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
            log.put(str(start), done)
        replies += done
    return replies


def from_server(endpoint: Endpoint, workers: int, profile_field: bool = False) -> Write:
    """Replies of a served model, several at a time."""

    def write(rows: list[dict[str, Any]], log: AnswerLog, progress: str) -> list[str]:
        def reply(number: int) -> None:
            options: dict[str, Any] = {"temperature": 0.0, "max_completion_tokens": MAX_TOKENS}
            options |= with_profile(rows[number]) if profile_field else {}
            log.put(str(number), endpoint.complete(rows[number]["prompt"], options).choices[0].message.content or "")

        pool = ThreadPoolExecutor(workers)
        futures = [pool.submit(reply, number) for number in range(len(rows)) if log.get(str(number)) is None]
        try:
            for future in tqdm(as_completed(futures), desc=progress, total=len(futures), unit="reply"):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
        return [log.get(str(number)).strip() for number in range(len(rows))]

    return write


def replies_of(folder: Path) -> pd.DataFrame:
    """replies.parquet of an evaluation. Raises BenchmarkError if there is none."""
    file = folder / "replies.parquet"
    if not file.is_file():
        raise BenchmarkError(f"{folder} has no replies. Let the model write some: cuma evaluate … --replies 200.")
    return pd.read_parquet(file)


def paired(table: pd.DataFrame, other: pd.DataFrame | None) -> pd.DataFrame:
    """The replies with a `reference` each: another model's reply to the same prompt, or what the person preferred.

    Raises BenchmarkError if there is none.
    """
    if other is not None:
        theirs = other.drop_duplicates(HASH).set_index(HASH)["reply"]
        both = table.assign(reference=table[HASH].map(theirs)).dropna(subset="reference")
    else:
        both = table[table["chosen"].notna()].rename(columns={"chosen": "reference"})
    if both.empty:
        raise BenchmarkError(
            "no reply has another one to be compared with. Give --against a run with replies to the same prompts, or a "
            "benchmark of preferences (prism, community, or your own in the form dpo)."
        )
    return both.reset_index(drop=True)
