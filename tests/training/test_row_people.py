"""What TRL's trainers leave to their callers: streams, rows that come later, no tokenizer; in all three trainers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from trl import DPOConfig, GRPOConfig, SFTConfig

from cuma.errors import ConfigError, ProfileError, UnsupportedError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.training import row_people
from cuma.training.row_people import RowPeople
from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer, CumaSFTTrainer
from helpers.preferences import COMMON, PEOPLE, mixture
from helpers.tiny import llama

KINDS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "sft": (CumaSFTTrainer, SFTConfig, {}),
    "dpo": (CumaDPOTrainer, DPOConfig, {}),
    "grpo": (CumaGRPOTrainer, GRPOConfig, {"num_generations": 2, "max_completion_length": 3}),
}
LATER = ["A woman living in Norway", {"country": "Chad", "age": 41}, None, "A man living in Kenya"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def rows(kind: str, people: list[Any] = PEOPLE) -> list[dict[str, Any]]:
    own: dict[str, dict[str, Any]] = {
        "sft": {"completion": " Yes."},
        "dpo": {"chosen": " Yes.", "rejected": " Not at all."},
        "grpo": {},
    }
    return [{"prompt": f"Question {i}?", **own[kind], "profile": who} for i, who in enumerate(people)]


def trainer(kind: str, folder: Path, model: Any, dataset: Any, **options: Any) -> Any:
    cls, configuration, own = KINDS[kind]
    args = configuration(str(folder), **COMMON | {"max_steps": 1, "per_device_eval_batch_size": 2} | own)
    for name in [name for name in options if name in vars(args)]:
        setattr(args, name, options.pop(name))
    if kind == "grpo":
        options["reward_funcs"] = lambda completions, **_: [1.0] * len(completions)
    return cls(model, args=args, train_dataset=dataset, **options)


def sentences(kind: str, people: list[Any] = PEOPLE) -> Dataset:
    """Arrow wants one type a column."""
    return Dataset.from_list([{**row, "profile": str(row["profile"] or "")} for row in rows(kind, people)])


STREAMS: dict[str, Callable[[str], IterableDataset]] = {
    "columns unknown": lambda kind: IterableDataset.from_generator(lambda: iter(rows(kind))),
    "columns known": lambda kind: sentences(kind).to_iterable_dataset(),
    "without an end": lambda kind: IterableDataset.from_generator(lambda: itertools.cycle(rows(kind))),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_trained_on_with_each_rows_person(
    kind: str, stream: str, tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    model = mixture(tokenizer)
    made = trainer(kind, tmp_path, model, STREAMS[stream](kind), processing_class=tokenizer, profile_encoder=encoder)
    seen: list[torch.Tensor] = []
    model.base_model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["profile_embeds"]), with_kwargs=True
    )
    made.train()
    known = encoder([who or None for who in PEOPLE])
    assert seen
    for row in torch.cat(seen):
        assert any(torch.allclose(row, own, atol=1e-6) for own in known)


def test_a_fresh_adapters_statistics_come_from_a_streams_head(
    tmp_path: Path, tokenizer: Any, encoder: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_people, "HEAD", 3)
    model = mixture(tokenizer)
    standardiser = model.base_model.cuma_profile["default"]
    with torch.no_grad():
        standardiser.scale.zero_()
    trainer(
        "sft", tmp_path, model, STREAMS["without an end"]("sft"), processing_class=tokenizer, profile_encoder=encoder
    )
    torch.testing.assert_close(standardiser.mean.detach(), encoder(PEOPLE[:3]).mean(0), atol=1e-6, rtol=0)
    assert "3 different profiles in its first 3 rows" in caplog.text
    assert not any(who in caplog.text for who in PEOPLE if who)


def test_streams_that_say_nobody_and_packed_streams_are_refused_by_name(
    tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    options = {"processing_class": tokenizer, "profile_encoder": encoder}
    for stream in (lambda: iter([{"prompt": "?", "completion": "!"}]), lambda: iter(())):
        with pytest.raises(ProfileError, match="no 'profile' column"):
            trainer("sft", tmp_path, mixture(tokenizer), IterableDataset.from_generator(stream), **options)
    stream = STREAMS["columns known"]("sft")
    with pytest.raises(UnsupportedError, match="Set packing=False and padding_free=True"):
        trainer("sft", tmp_path, mixture(tokenizer), stream, packing=True, **options)
    trainer("sft", tmp_path, mixture(tokenizer), stream, padding_free=True, max_length=None, **options).train()


def test_survey_rows_may_be_streamed(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    def survey() -> Iterator[dict[str, Any]]:
        for who in PEOPLE:
            yield {"input_ids": [5, 6], "answer_tokens": [7, 8], "answer_weights": [1.0, 0.0], "profile": who}

    stream = IterableDataset.from_generator(survey)
    made = trainer("sft", tmp_path, mixture(tokenizer), stream, processing_class=tokenizer, profile_encoder=encoder)
    made.train()
    assert made.state.log_history[0]["option_mass"] > 0


# ---- people who come later -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_may_bring_people_who_are_new(kind: str, tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    later = sentences(kind, [who if isinstance(who, str) else "" for who in LATER])
    for source in ({"profile_encoder": encoder}, {"profile_table": ProfileTable(encoder, PEOPLE)}):
        model = mixture(tokenizer)
        made = trainer(kind, tmp_path, model, sentences(kind), processing_class=tokenizer, **source)
        made.train()
        seen: list[torch.Tensor] = []
        model.base_model.register_forward_pre_hook(
            lambda _, __, given, seen=seen: seen.append(given["profile_embeds"]), with_kwargs=True
        )
        name = "eval_reward" if kind == "grpo" else "eval_loss"
        assert name in made.evaluate(later)
        expected = encoder([str(who) or None for who in later["profile"]])
        rows_seen = torch.cat(seen)
        assert all(any(torch.allclose(row, own, atol=1e-5) for own in expected) for row in rows_seen)
        assert all(any(torch.allclose(own, row, atol=1e-5) for row in rows_seen) for own in expected)
        both = made.evaluate({"one": later, "two": sentences(kind)})
        assert {"eval_one_runtime", "eval_two_runtime"} <= both.keys()
        stream = IterableDataset.from_generator(lambda: iter(rows(kind, LATER)))
        assert name in made.evaluate(stream)
        with pytest.raises(ProfileError, match="no 'profile' column"):
            made.evaluate(later.remove_columns("profile"))


def test_packed_evaluation_may_bring_people_who_are_new(tmp_path: Path, tokenizer: Any, encoder: Any) -> None:
    made = trainer(
        "sft", tmp_path, mixture(tokenizer), sentences("sft"), processing_class=tokenizer, profile_encoder=encoder,
        packing=True, max_length=40,
    )  # fmt: skip
    made.train()
    later = sentences("sft", ["A woman living in Norway", "A man living in Kenya", "A woman living in Peru"])
    prepared = made._prepare_dataset(later, tokenizer, made.args, True, None, "eval")
    batch = made.data_collator(list(prepared))
    for row in later:
        own = encoder([row["profile"]])[0]
        assert any(torch.allclose(own, other, atol=1e-5) for other in batch["profile_embeds"])
    assert made.evaluate(later)["eval_loss"] > 0
    before = next(iter(made.get_train_dataloader()))["profile_embeds"]  # who was there keeps their row
    assert all(any(torch.allclose(row, own, atol=1e-5) for own in encoder(PEOPLE)) for row in before)


def test_a_newcomer_to_the_control_gets_somebody_elses_embedding(encoder: ProfileEncoder) -> None:
    table = ProfileTable(encoder, PEOPLE).shuffled(3)
    people = RowPeople(None, table, [])
    newcomers = LATER[:3]
    expected = table.covering(newcomers)(newcomers)
    assert torch.equal(people(newcomers), expected)
    people.admit(newcomers)
    assert torch.equal(people.table(newcomers), expected)
    assert torch.equal(people.table(PEOPLE), table(PEOPLE))


def test_newcomers_are_encoded_once_and_forgotten_when_there_are_too_many(
    encoder: ProfileEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, asked = RowPeople(encoder, None, [Dataset.from_list(rows("grpo"))]), []
    monkeypatch.setattr(people.table, "encoder", lambda profiles: asked.append(len(profiles)) or encoder(profiles))
    monkeypatch.setattr(row_people, "RECENT", 2)
    one, two, three = ("A person of 20", "A person of 30", "A person of 40")
    assert torch.equal(people([one, PEOPLE[0], one])[1], people([PEOPLE[0]])[0])
    people([one, two])
    people([two, three])
    assert asked == [1, 1, 1]
    people([one])
    assert asked == [1, 1, 1, 1]


# ---- no tokenizer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_is_left_out_is_found_by_the_models_name(
    kind: str, tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    llama(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = mixture(tokenizer)
    model.config._name_or_path = str(tmp_path / "model")
    given = trainer(
        kind, tmp_path, mixture(tokenizer), sentences(kind), processing_class=tokenizer, profile_encoder=encoder
    )
    found = trainer(kind, tmp_path, model, sentences(kind), profile_encoder=encoder)
    given.train()
    found.train()
    if kind != "grpo":  # whose replies are drawn at random
        assert found.state.log_history[0]["loss"] == given.state.log_history[0]["loss"]
    model = mixture(tokenizer)
    model.config._name_or_path = "smollm2-135m"
    assert trainer(kind, tmp_path, model, sentences(kind), profile_encoder=encoder).processing_class is not None
    nameless = mixture(tokenizer)
    nameless.config._name_or_path = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="processing_class="):
        trainer(kind, tmp_path, nameless, sentences(kind), profile_encoder=encoder)


def test_the_references_answers_of_another_persons_embedding_are_not_taken_from_a_cache(
    tmp_path: Path, tokenizer: Any, encoder: Any
) -> None:
    """TRL keeps them by data and model; the control differs from neither."""
    table = ProfileTable(encoder, PEOPLE)
    Dataset.from_list(sentences("dpo").to_list()).save_to_disk(tmp_path / "data")
    kept = []
    for one in (table, table.shuffled(3)):
        dataset = Dataset.load_from_disk(tmp_path / "data")
        made = trainer(
            "dpo", tmp_path, mixture(tokenizer), dataset, processing_class=tokenizer, profile_table=one,
            precompute_ref_log_probs=True,
        )  # fmt: skip
        kept.append(made.train_dataset["ref_chosen_logps"][:])
    assert kept[0] != kept[1]
