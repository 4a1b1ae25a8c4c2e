"""judge_reward in a real GRPO step: each reply is judged for its own person, against its own reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from trl import GRPOConfig

from cuma.data.surveys.answers import ANSWER_COLUMNS
from cuma.errors import EndpointRequestError, RecipeError
from cuma.judge import Judge
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.recipes.load import load_recipe
from cuma.training.rewards import REWARDS, agreement_reward, check_reward, judge_reward
from cuma.training.train import train_run
from cuma.training.trainers import CumaGRPOTrainer
from helpers.judging import prefers, serving
from helpers.preferences import COMMON, PROMPTS, mixture

REWARDED = "rewards/judge_reward/mean"
GRPO = ("pipeline=[sft, grpo]", "grpo.reward=judge", "judge.model=tiny-judge")


@pytest.fixture(scope="module")
def parts() -> tuple[Any, ProfileEncoder]:
    return load_backbone("smollm2-135m").tokenizer, ProfileEncoder.from_pretrained("minilm")


def judged(folder: Path, judge: Judge, parts: tuple[Any, ProfileEncoder]) -> Any:
    tokenizer, encoder = parts
    own = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 2}
    return CumaGRPOTrainer(
        mixture(tokenizer),
        judge_reward(judge),
        GRPOConfig(output_dir=str(folder), **(COMMON | own)),
        train_dataset=Dataset.from_list([row | {"reference": f"Mine for {row['prompt']}"} for row in PROMPTS]),
        processing_class=tokenizer,
        profile_encoder=encoder,
    )


def test_replies_are_judged_for_their_own_people(tmp_path: Path, parts: Any) -> None:
    with serving(prefers(lambda reply: -float(reply.startswith("Mine")))) as server:
        trainer = judged(tmp_path, server.judge(tmp_path / "cache"), parts)
        trainer.train()
    known = {row["prompt"]: row["profile"] for row in PROMPTS}
    assert server.shown
    for shown in server.shown:
        assert shown.get("person", "") == known[shown["prompt"]]
        assert f"Mine for {shown['prompt']}" in (shown["reply A"], shown["reply B"])
    assert [row[REWARDED] for row in trainer.state.log_history if "loss" in row] == [1, 1]


def test_the_weights_follow_the_judge(tmp_path: Path, parts: Any) -> None:
    with serving(prefers(lambda reply: float("e" in reply))) as server:
        trainer = judged(tmp_path, server.judge(tmp_path / "cache"), parts)
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
        trainer.train()
    rewards = [row[REWARDED] for row in trainer.state.log_history if "loss" in row]
    assert any(0 < reward < 1 for reward in rewards)
    assert any(not p.equal(before[name]) for name, p in trainer.model.named_parameters() if name in before)


def test_a_judge_that_fails_ends_the_training(tmp_path: Path, parts: Any) -> None:
    with serving(lambda *_: 401) as server, pytest.raises(EndpointRequestError, match="401"):
        judged(tmp_path, server.judge(tmp_path / "cache"), parts).train()


def test_messages_win_tie_loss_and_no_verdict(tmp_path: Path) -> None:
    def says(shown: dict[str, Any], tries: int) -> str:
        return "?" if "silent" in str(shown) else prefers(len)(shown, tries)

    def messages(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    prompts = [[{"role": "system", "content": "You are Kenyan."}, {"role": "user", "content": "Why?"}]] * 4
    with serving(says) as server:
        reward = judge_reward(server.judge(tmp_path))
        scores = reward(
            prompts=prompts,
            completions=[messages(text) for text in ("longer", "equal", "short", "silent")],
            reference=[messages("short"), "qeual", messages("longer"), "talk"],
            profile=[{"country": "Kenya", "age": None}, "A man", None, None],
            trainer_state=None,
        )
        assert scores == [1, 0.5, 0, None]
        assert reward(prompts=["p"], completions=["longer"], reference=["short"]) == [1]
    assert {shown.get("person") for shown in server.shown} == {"A person living in Kenya", "A man", None}
    assert "You are Kenyan" not in str(server.bodies)
    assert reward.__name__ == "judge_reward"


def test_recipes_name_rewards_and_a_survey_cannot_feed_the_judge(tmp_path: Path) -> None:
    survey, judging = load_recipe("quickstart/gss/cuma"), load_recipe("quickstart/gss/cuma", GRPO)
    check_reward(survey, ANSWER_COLUMNS)
    assert REWARDS["agreement"].make(survey) is agreement_reward
    with pytest.raises(RecipeError, match=r"'grpo.reward' is 'judge'.*'reference'.*'gss' has only group"):
        train_run(judging, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_reward(judging, (*ANSWER_COLUMNS, "reference"))


def test_a_recipe_makes_its_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path))
    with serving(prefers(len)) as server:
        recipe = load_recipe("quickstart/gss/cuma", (*GRPO, f"judge.base_url={server.url}", "judge.temperature=null"))
        reward = REWARDS["judge"].make(recipe)
        assert reward(prompts=["p"], completions=["longer"], reference=["short"]) == [1]
    assert {(body["model"], "temperature" in body) for body in server.bodies} == {("tiny-judge", False)}
    assert (tmp_path / "judge" / "verdicts.sqlite").is_file()
