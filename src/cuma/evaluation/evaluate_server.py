"""Measuring a model that stands behind an OpenAI-compatible server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cuma.answering.materials import load_survey
from cuma.errors import EndpointError
from cuma.evaluation.answer_log import AnswerLog, distinct, fingerprint, rows_fingerprint
from cuma.evaluation.outlook import tell_prompts
from cuma.evaluation.question_sheet import sheet_of
from cuma.evaluation.remote import How, RemoteModel, offered
from cuma.evaluation.replies import evaluate_replies, from_server
from cuma.evaluation.subject import Prompting, Subject, measured_run, recipe_with
from cuma.models.endpoint import Endpoint
from cuma.recipes.load import build_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.writer_lock import writing


@dataclass(frozen=True)
class Server:
    """Where a model is served, and how it may be asked."""

    url: str
    """Of any OpenAI-compatible server, such as http://localhost:8000/v1."""
    model: str
    """Its name there."""
    answers: How | Literal["auto"] = "auto"
    """Where option probabilities come from; "auto": from log-probabilities if the server gives them."""
    samples: int = 20
    """Replies to each prompt, where there are no log-probabilities."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; a server on this machine needs none."""
    max_requests: int = 20_000
    """How often it may be asked."""
    workers: int = 8
    """Requests at once."""
    send_profiles: bool = False
    """Whether people's profiles, or other people's answers (few-shot), may leave this machine."""
    profile_field: bool = False
    """Whether each profile goes along as the request's field `profile`: for `cuma serve`, whose routers read it."""
    timeout: float = 120.0
    """Seconds to wait for an answer."""


def subject_of_server(server: Server, benchmark: str, prompting: Prompting, folder: Path | None = None) -> Subject:
    """A served model as a subject; its run is made, or goes on.

    Args:
        server: the model.
        benchmark: name or folder.
        prompting: what the prompt says about the person.
        folder: the run's; None: one in `runs/measured`.

    Raises:
        EndpointError: people's data may not be sent there, the key is missing, or the address is none.
        RunError: the folder holds another run.
    """
    _check_sending(_endpoint(server), server, prompting)
    return measured_run(_recipe(server, benchmark, prompting), server.model, prompting, folder, _about(server))


def evaluate_server(server: Server, subject: Subject) -> Path:
    """Let a served model answer for the test people, or groups, and score its answers.

    What it said is kept as it comes in: after an error, or a kill, the same call goes on. A finished evaluation is left
    alone.

    Args:
        server: the model.
        subject: from `subject_of_server`.

    Returns:
        The evaluation's folder.

    Raises:
        EndpointRequestError: the server failed. RequestLimitError: it was asked as often as it may be.
        EndpointError: the answers hold no letters. BenchmarkError: the benchmark has nothing to compare with.
    """
    done = subject.run.evaluation_of(subject.recipe.digest)
    if done is not None:
        return done
    with writing(subject.run.path):
        return _evaluated(server, subject)


def _evaluated(server: Server, subject: Subject) -> Path:
    """The folder of an evaluation that is made now."""
    run, recipe = subject.run, subject.recipe
    survey, corpus = load_survey(recipe)
    sheet = sheet_of(recipe, survey, corpus)
    rows = sheet.rows
    differing, _ = distinct(rows, profiles=server.profile_field)
    started = time.monotonic()
    folder = run.evaluation(sheet.benchmark, recipe.digest)
    endpoint = _endpoint(server)
    how = offered(endpoint, rows[0]["prompt"]) if server.answers == "auto" else server.answers
    asked_about = fingerprint(
        rows_fingerprint(differing), server.url, server.model, how, server.samples, server.profile_field
    )
    log = AnswerLog(folder / "answers.jsonl", asked_about)
    tell_prompts(differing, run.info["label"], sheet.in_orders, _requests(server, how, len(differing) - len(log)))
    remote = RemoteModel(endpoint, how, server.samples, server.workers, server.profile_field)
    predicted = remote.answer(rows, log, f"{run.info['label']}: answering ({how})")
    facts = {**subject.protocol, "host": endpoint.host, **remote.facts(rows, predicted)}
    sheet.write(folder, predicted, None, facts)
    log.close()
    card = survey.card
    run.update(
        status="evaluated",
        seconds={**run.info.get("seconds", {}), "evaluate": round(time.monotonic() - started, 1)},
        requests={"sent": endpoint.requests, "failed": endpoint.failures},
        data={key: card[key] for key in ("source", "citation", "licence")},
        licences={server.model: "unknown", survey.name: card["licence"]},
    )
    return folder


def _requests(server: Server, how: How, prompts: int) -> str:
    """How much is sent, and how it may be less, where replies are sampled."""
    sampled = f", {server.samples} replies to each (--samples)" if how == "samples" else ""
    return f"{sampled}, {prompts:,} of them still to send, {server.workers} at once (--workers)"


def replies_of_server(server: Server, subject: Subject, count: int) -> dict[str, Any]:
    """`evaluate_replies` of a served model. Raises as it, and as `evaluate_server`."""
    return evaluate_replies(subject, count, from_server(_endpoint(server), server.workers, server.profile_field))


def _endpoint(server: Server) -> Endpoint:
    return Endpoint(
        server.model,
        role="model",
        base_url=server.url,
        api_key_env=server.api_key_env,
        max_requests=server.max_requests,
        timeout=server.timeout,
    )


def _check_sending(endpoint: Endpoint, server: Server, prompting: Prompting) -> None:
    personal = prompting != "none" or server.profile_field
    if not personal or server.send_profiles or endpoint.is_local:
        return
    what = "people's own answers" if prompting == "few_shot" and not server.profile_field else "people's profiles"
    raise EndpointError(
        f"That sends {what} to {endpoint.host}, somebody else's server. If the people agreed to it, say "
        "--send-profiles. Otherwise ask with --prompting none, or a model on this machine."
    )


def _recipe(server: Server, benchmark: str, prompting: Prompting) -> Recipe:
    routed = server.profile_field  # to a recipe, a router elsewhere is a router
    tree = {
        "name": "measured",
        "kind": "trained" if routed else "untrained",
        "adapter": {"method": "cuma" if routed else "none"},
        "backbone": {"model_name_or_path": server.model},
        "data": {"benchmark": benchmark, "profile_in": "router" if routed else "nowhere"},
    }
    recipe = build_recipe(tree, server.model)
    return recipe_with(recipe, benchmark, prompting)


def _about(server: Server) -> dict[str, object]:
    return {"server": {"url": server.url, "model": server.model, "answers": server.answers, "samples": server.samples}}
