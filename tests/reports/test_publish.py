"""`cuma push`: the real command and the real client against a Hub on this machine; what arrives is what loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from cuma.cli import EXIT_ERROR
from cuma.errors import PublishError, RunError
from cuma.recipes.load import load_recipe
from cuma.reports.publish import PUBLISHED, push_to_hub
from cuma.runs.folder import Run
from helpers.fake_hub import TOKEN, FakeHub, running_hub
from helpers.tiny import adapted, llama, logits, people, tokens

REPO = "somebody/values"
QUESTION = {"id": "q", "text": "Tea?", "options": ["Yes", "No"], "ordinal": False}
INFO = {
    "status": "trained",
    "description": "A test.",
    "trainable_parameters": 1,
    "versions": {"cuma": "0.1.0"},
    "backbone": {"name": "org/tiny", "hub_id": "org/tiny", "revision": "abc", "licence": "mit"},
    "data": {"source": "a survey", "citation": "Somebody (2020)", "licence": "CC-BY-4.0"},
    "population": {
        "questions": [QUESTION],
        "people": 40,
        "groups": {"tea drinkers": 40},
        "hidden_groups": 0,
        "profile_fields": {"country": ["Peru"]},
    },
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A trained run whose adapter folder also holds what must never leave the machine."""
    made = Run.create(tmp_path / "run", load_recipe("quickstart/gss/cuma").to_yaml(), INFO)
    base = llama()
    base.config._name_or_path = base.name_or_path = "org/tiny"
    adapted(base, profile_encoder={"id": "org/encoder"}).save_pretrained(made.adapter)
    for name in ("optimizer.pt", "predictions.parquet", "metrics.jsonl"):
        (made.adapter / name).write_text("mine alone")
    return made


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


def push(url: str, *words: object, token: str | None = TOKEN, home: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: huggingface_hub reads its settings once, and the tests' say offline."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "-c", "from cuma.cli import main; main()", "push", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_what_is_pushed_is_private_and_loads_from_what_arrived(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    done = push(hub.url, run.path, REPO, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(f"{hub.url}/{REPO}/commit/")
    assert hub.private == {REPO: True}
    received = hub.commits[REPO, "main"]
    assert set(received) == set(PUBLISHED)
    (tmp_path / "received").mkdir()
    for name, content in received.items():
        (tmp_path / "received" / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*unverified")
        loaded = PeftModel.from_pretrained(llama(), tmp_path / "received").eval()
    torch.testing.assert_close(logits(loaded), logits(adapted(llama())), rtol=0, atol=0)
    card = received["README.md"].decode()
    assert f"'{REPO}'" in card.replace('"', "'")
    assert str(tmp_path) not in card


def test_branch_public_and_a_card_edited_by_hand(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    (run.adapter / "README.md").write_text("---\nlicense: mit\n---\nMy own words.\n")
    done = push(hub.url, run.path, REPO, "--public", "--revision", "v2", "--keep-card", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.private == {REPO: False}
    assert b"My own words." in hub.commits[REPO, "v2"]["README.md"]
    again = push(hub.url, run.path, REPO, home=tmp_path)  # private, as it was not said otherwise
    assert again.returncode == EXIT_ERROR
    assert "--public" in again.stderr
    assert (REPO, "main") not in hub.commits


@pytest.mark.parametrize(
    ("token", "reachable", "message"),
    [(None, True, "hf auth login"), ("hf_reads", True, "hf auth login"), (TOKEN, False, "cannot be reached")],
)
def test_errors_are_one_line_that_says_what_to_do(
    run: Run, hub: FakeHub, tmp_path: Path, token: str | None, reachable: bool, message: str
) -> None:
    done = push(hub.url if reachable else "http://127.0.0.1:9", run.path, REPO, token=token, home=tmp_path)
    assert done.returncode == EXIT_ERROR
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not hub.commits


def test_runs_that_cannot_be_published(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE"):
        push_to_hub(run.path, REPO)
    new = Run.create(tmp_path / "new", "", {"status": "training"})
    with pytest.raises(RunError, match="not trained"):
        push_to_hub(new.path, REPO)
    old = {key: value for key, value in run.info.items() if key != "population"}
    (run.path / "run.json").write_text(json.dumps(old))
    with pytest.raises(RunError, match="population"):
        push_to_hub(run.path, REPO)


@pytest.mark.parametrize("key", ["base_model_name_or_path", "profile_encoder"])
def test_a_path_on_this_machine_is_not_published(run: Run, tmp_path: Path, key: str) -> None:
    config = run.adapter / "adapter_config.json"
    value = str(tmp_path) if key.startswith("base") else {"id": str(tmp_path)}
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    with pytest.raises(PublishError) as caught:
        push_to_hub(run.path, REPO)
    assert str(tmp_path) not in str(caught.value)
    assert "Hub id" in str(caught.value)


def test_the_card_changes_nothing_that_loading_checks(run: Run) -> None:
    from cuma.reports.model_card import write_model_card

    write_model_card(run.path)
    loaded = PeftModel.from_pretrained(llama(), run.adapter).eval()
    with torch.no_grad():
        assert loaded(input_ids=tokens(1), profile_embeds=people(1)).logits.isfinite().all()
