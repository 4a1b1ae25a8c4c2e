"""A person's adapter as an ordinary LoRA: stock PEFT computes with it what the mixture computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from cuma.answering.answerer import Answerer
from cuma.data.surveys.prompts import letter_orders, survey_messages
from cuma.data.surveys.survey import Question
from cuma.errors import ExportError, ProfileError, UnsupportedError
from cuma.exchange.calibration import tasks_of
from cuma.exchange.export import REPORT, export_people, export_person
from cuma.exchange.people_index import INDEX, People, hash_of, secret_of
from cuma.metrics import emd
from cuma.people.profiles import Profile
from helpers.served import PERUVIAN, THAI, profile_rows, tiny_answerer, tokenizer
from helpers.tiny import llama, tokens

PERSON = Profile(**THAI)
PERSONAL: list[dict[str, Any]] = [
    {},
    {"share_a": True},
    {"share_router": False, "target_modules": "all-linear", "top_k": 4},
    {"router_hidden_dim": None, "profile_projection_dim": 5, "layers_to_transform": [1]},
    {"profile_in_experts": True, "num_experts": 1, "top_k": 1},
]


def person_only(**options: Any) -> Answerer:
    return tiny_answerer(router_input="profile", **options)


def logits(model: Any, **inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens(2, seed=3), **inputs).logits


def fresh_base() -> Any:
    return llama(vocab_size=len(tokenizer()), max_position_embeddings=512, pad_token_id=None, bos_token_id=None)


@pytest.mark.parametrize("options", PERSONAL)
def test_stock_peft_gives_the_same_logits(options: dict[str, Any], tmp_path: Path) -> None:
    answerer = person_only(**options)
    report = export_person(answerer, PERSON, tmp_path / "lora")
    assert report["exact"] is True
    whole = logits(answerer.model, profile_embeds=profile_rows([PERSON]).expand(2, -1))
    stock = PeftModel.from_pretrained(fresh_base(), str(tmp_path / "lora"))
    assert stock.active_peft_config.peft_type.value == "LORA"
    torch.testing.assert_close(logits(stock), whole, rtol=0, atol=2e-5)  # sums in another order
    with answerer.model.disable_adapter():
        assert (logits(answerer.model) - whole).abs().max() > 0.1, "the adapter must say something"
    others = logits(answerer.model, profile_embeds=profile_rows([Profile(**PERUVIAN)]).expand(2, -1))
    assert (others - whole).abs().max() > 1e-3, "the people must matter"


def test_the_rank_is_that_of_the_experts_in_use(tmp_path: Path) -> None:
    assert export_person(person_only(), PERSON, tmp_path / "two")["rank"] == 2 * 4
    assert export_person(person_only(share_a=True), PERSON, tmp_path / "one")["rank"] == 4


def test_merged_it_is_a_plain_model_that_computes_the_same(tmp_path: Path) -> None:
    answerer = person_only()
    before = {name: tensor.clone() for name, tensor in answerer.model.state_dict().items()}
    export_person(answerer, PERSON, tmp_path / "merged", merge=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    whole = logits(answerer.model, profile_embeds=profile_rows([PERSON]).expand(2, -1))
    torch.testing.assert_close(logits(plain), whole, rtol=0, atol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    after = answerer.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), "the mixture is as it was"


# ---- routers that look at the tokens ------------------------------------------------------------------------------

QUESTION = {"question": "Should it be allowed?", "options": ["Yes", "Perhaps", "No"], "ordinal": True}
TALK = {"prompt": "May one lie to a friend?", "completion": "Only to spare them."}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    file = tmp_path / "calibration.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in (QUESTION, TALK)), encoding="utf-8")
    return file


def divergence(p: Tensor, q: Tensor) -> Tensor:
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


@torch.no_grad()
def test_the_report_of_a_joint_router_is_recomputed_from_the_files(calibration: Path, tmp_path: Path) -> None:
    answerer = tiny_answerer()
    report = export_person(answerer, PERSON, tmp_path / "lora", calibration=calibration, max_kl=100)
    assert report["exact"] is False
    assert report["calibration"] == {"tasks": 2, "rows": 4}
    stock = PeftModel.from_pretrained(fresh_base(), str(tmp_path / "lora")).eval()
    question = Question("q", QUESTION["question"], tuple(QUESTION["options"]), True)
    who = profile_rows([PERSON])
    letters = [tokenizer().encode(letter)[0] for letter in "ABC"]
    divergences, distances = [], []
    for order in letter_orders(3):
        ids = tokenizer().apply_chat_template(
            survey_messages(question, order), add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        ours, theirs = answerer.model(input_ids=ids, profile_embeds=who).logits[0, -1], stock(ids).logits[0, -1]
        divergences.append(divergence(ours, theirs))
        shares = []
        for row in (ours, theirs):
            share = np.empty(3)
            share[list(order)] = row[letters].double().softmax(-1).numpy()
            shares.append(share)
        distances.append(float(emd(*shares, True)))
    turn = [{"role": "user", "content": TALK["prompt"]}]
    start = len(tokenizer().apply_chat_template(turn, add_generation_prompt=True, return_dict=False))
    turn.append({"role": "assistant", "content": TALK["completion"]})
    ids = tokenizer().apply_chat_template(turn, return_tensors="pt", return_dict=False)
    ours, theirs = answerer.model(input_ids=ids, profile_embeds=who).logits[0], stock(ids).logits[0]
    divergences.extend(divergence(ours[start - 1 : -1], theirs[start - 1 : -1]))
    assert report["cost"]["positions"] == len(divergences)
    assert report["cost"]["kl"] == pytest.approx(float(torch.stack(divergences).mean()), rel=1e-3)
    assert report["cost"]["kl_max"] == pytest.approx(float(torch.stack(divergences).max()), rel=1e-3)
    assert report["cost"]["emd"] == pytest.approx(np.mean(distances), rel=1e-3)
    assert report["cost"]["kl"] > 1e-4, "fixing the gates must cost something, or this test says nothing"
    assert report["held_out"]["positions"] == report["cost"]["positions"]
    assert json.loads((tmp_path / "lora" / REPORT).read_text()) == json.loads(json.dumps(report))


def test_what_costs_too_much_is_refused_and_not_written(calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="more than --max-kl 1e-09"):
        export_person(tiny_answerer(), PERSON, tmp_path / "lora", calibration=calibration, max_kl=1e-9)
    assert not (tmp_path / "lora").exists()


def test_gates_that_do_not_look_at_tokens_cost_nothing(calibration: Path, tmp_path: Path) -> None:
    """A joint router whose weights on the hidden state are zero is a router of the person alone."""
    answerer = tiny_answerer()
    for layer in answerer.model.modules():
        if hasattr(layer, "hidden_width"):
            layer.input.weight[:, : layer.hidden_width] = 0
    report = export_person(answerer, PERSON, tmp_path / "lora", calibration=calibration)
    assert report["cost"]["kl"] == pytest.approx(0, abs=1e-9)
    assert report["held_out"]["emd"] == pytest.approx(0, abs=1e-6)


# ---- many people ----------------------------------------------------------------------------------------------------


def test_many_people_get_an_index_and_strangers_the_nearest(tmp_path: Path) -> None:
    answerer, folder = person_only(), tmp_path / "people"
    people = [PERSON, Profile(**PERUVIAN), Profile()]
    export_people(answerer, [*people, PERSON], folder)
    known = People.open(folder)
    found = [known.nearest(person) for person in people]
    assert len({nearest.folder for nearest in found}) == 3
    assert [nearest.distance for nearest in found] == [0, 0, 0]
    stranger = known.nearest(Profile(age=56, religion="Buddhist", country="Thailand"))
    assert stranger.folder == found[0].folder
    assert 0 < stranger.distance < 0.5
    whole = logits(answerer.model, profile_embeds=profile_rows([people[1]]).expand(2, -1))
    stock = PeftModel.from_pretrained(fresh_base(), str(found[1].folder))
    torch.testing.assert_close(logits(stock), whole, rtol=0, atol=2e-5)  # sums in another order


def test_nothing_in_a_folder_of_people_is_their_words(tmp_path: Path) -> None:
    export_people(person_only(), [PERSON, Profile(**PERUVIAN)], tmp_path / "people")
    words = [word.casefold().encode() for word in ("Buddhist", "Thailand", "Peru", "55-year-old")]
    for file in (tmp_path / "people").rglob("*"):
        text = str(file.relative_to(tmp_path)).encode() + (file.read_bytes() if file.is_file() else b"")
        assert not [word for word in words if word in text.lower()], file
    other = tmp_path / "other"
    export_people(person_only(), [PERSON], other)
    (entry,) = json.loads((other / INDEX).read_text())["people"]
    hashes = {each["hash"] for each in json.loads((tmp_path / "people" / INDEX).read_text())["people"]}
    assert entry["hash"] not in hashes, "the hash is keyed: another folder names the same person otherwise"


def moved(answerer: Answerer) -> Answerer:
    """The same mixture after a little more training."""
    for name, parameter in answerer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.add_(0.01)
    return answerer


def test_people_exported_anew_have_new_names_only_if_something_changed(tmp_path: Path) -> None:
    folder, people = tmp_path / "people", [PERSON, Profile(**PERUVIAN)]
    answerer = person_only()

    def names() -> list[str]:
        return [entry["hash"] for entry in export_people(answerer, people, folder)]

    first, again = names(), names()
    assert first == again
    moved(answerer)
    new = names()
    assert not set(first) & set(new)
    assert [name.partition("-")[0] for name in new] == [name.partition("-")[0] for name in first]
    assert [People.open(folder).nearest(person).folder.name for person in people] == new
    assert all((folder / name / "adapter_config.json").is_file() for name in [*first, *new]), (
        "an engine may hold the old"
    )


def test_another_calibration_gives_another_name(calibration: Path, tmp_path: Path) -> None:
    """The mixture is the same, and the gates that are frozen are not."""
    answerer, folder = tiny_answerer(), tmp_path / "people"
    (first,) = export_people(answerer, [PERSON], folder, calibration=calibration, max_kl=100)
    calibration.write_text(json.dumps(TALK), encoding="utf-8")
    (second,) = export_people(answerer, [PERSON], folder, calibration=calibration, max_kl=100)
    assert first["hash"] != second["hash"]


def test_the_second_part_of_a_name_is_keyed_too(tmp_path: Path) -> None:
    """Whoever has the mixture makes the adapter of anybody they suspect: its plain digest would confirm them."""
    parts = [export_people(person_only(), [PERSON], tmp_path / name)[0]["hash"].split("-") for name in ("a", "b")]
    assert parts[0][0] != parts[1][0]
    assert parts[0][1] != parts[1][1]


def test_folders_of_older_exports_are_read(tmp_path: Path) -> None:
    """They were named by the person's hash alone."""
    folder, people = tmp_path / "people", [PERSON, Profile(**PERUVIAN)]
    export_people(person_only(), people, folder)
    index = json.loads((folder / INDEX).read_text())
    for entry in index["people"]:
        old = entry["hash"].partition("-")[0]
        (folder / entry["hash"]).rename(folder / old)
        entry["hash"] = old
    (folder / INDEX).write_text(json.dumps(index))
    for person in people:
        nearest = People.open(folder).nearest(person)
        assert nearest.folder == folder / hash_of(person, secret_of(folder))
        assert nearest.distance == 0
        assert (nearest.folder / "adapter_config.json").is_file()


def test_calibration_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    file = tmp_path / "calibration.jsonl"
    lines = [
        "",
        json.dumps(TALK | {"completion": "Only\u2028to\u0085spare them."}, ensure_ascii=False),
        json.dumps(QUESTION),
    ]
    file.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    tasks = tasks_of(tiny_answerer(), file)
    assert len(tasks) == 2
    assert tasks[0].messages[1]["content"] == "Only\u2028to\u0085spare them."
    file.write_text("\n\n{}", encoding="utf-8")
    with pytest.raises(ExportError, match="line 3 of"):
        tasks_of(tiny_answerer(), file)


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    bare = tiny_answerer()
    bare.adapter = None
    with pytest.raises(ExportError, match="untouched model"):
        export_person(bare, PERSON, tmp_path / "lora")
    with pytest.raises(ExportError, match="--calibration FILE"):
        export_person(tiny_answerer(), PERSON, tmp_path / "lora")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(ExportError, match="not an empty folder"):
        export_person(person_only(), PERSON, tmp_path / "full")
    with pytest.raises(UnsupportedError, match="lora_bias"):
        export_person(person_only(profile_in_experts=True), PERSON, tmp_path / "lora", merge=True)
    with pytest.raises(ExportError, match="not a folder of exported people"):
        People.open(tmp_path)
    with pytest.raises(ProfileError, match="not closed"):
        Profile.read('country="Peru')


def test_a_semantic_mixture_is_one_lora_for_all(calibration: Path, tmp_path: Path) -> None:
    answerer = tiny_answerer(router_input="semantic")
    report = export_person(answerer, Profile(), tmp_path / "lora", calibration=calibration, max_kl=100)
    assert report["exact"] is False
    assert "cuma_" not in " ".join(load_file(tmp_path / "lora" / "adapter_model.safetensors"))
