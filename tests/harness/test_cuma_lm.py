"""The model type in the real harness: each request its own person, in batches, behind the cache, in rolling texts."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from huggingface_hub import constants
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.tasks import TaskManager
from peft import get_peft_model
from typer.testing import CliRunner

from cuma import CumaConfig, ProfileEncoder, load_backbone
from cuma.answering.adapter_files import save_adapter
from cuma.cli import EXIT_ERROR, app
from cuma.errors import ConfigError, UnsupportedError
from cuma.harness.command import TARGET, TASKS, register
from cuma.harness.cuma_lm import CumaLM
from cuma.harness.marker import mark
from cuma.people.profiles import Profile
from helpers import ROOT
from helpers.folders import LORA, PREFIX, base_folder, lora_folder, run_folder, tiny_base
from helpers.tiny import base_logits

PEOPLE = (Profile(country="Peru"), Profile(country="Mali", age=70), Profile())
QUESTION = "May one lie to a friend?\nA. Yes\nB. No\nAnswer with one letter."


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture with random experts on the real model's last layer: who asks matters, and nothing is trained."""
    torch.manual_seed(0)
    encoder = ProfileEncoder.from_pretrained("minilm")
    backbone = load_backbone("smollm2-135m")
    config = CumaConfig(
        profile_dim=encoder.dim, profile_encoder=encoder.spec, target_modules=["v_proj"], layers_to_transform=[29],
        init_weights=False, lora_alpha=64,
    )  # fmt: skip
    model = get_peft_model(backbone.model, config)
    model.fit_profiles(encoder(PEOPLE[:2]))
    folder = tmp_path_factory.mktemp("harness") / "adapter"
    save_adapter(model, folder)
    return folder


@pytest.fixture(scope="module")
def lm(adapter: Path) -> CumaLM:
    return CumaLM(backbone="smollm2-135m", adapter=str(adapter), batch_size=4, device="cpu")


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]


def chat(lm: CumaLM, profile: Profile) -> str:
    return lm.apply_chat_template([{"role": "user", "content": mark(profile, QUESTION)}])


def directly(lm: CumaLM, profile: Profile, letter: str) -> float:
    """Log-probability of the line break before the answer, which the harness counts to it, and of the letter."""
    text = lm.apply_chat_template([{"role": "user", "content": QUESTION}]) + letter
    ids = torch.tensor([lm.tok_encode(text)])
    embeds = ProfileEncoder.from_pretrained("minilm")([profile])
    with torch.no_grad():
        said = lm.model(input_ids=ids, profile_embeds=embeds).logits[0].log_softmax(-1)
    return float(said[-3, ids[0, -2]] + said[-2, ids[0, -1]])


def test_a_mixed_batch_answers_each_request_for_its_own_person(lm: CumaLM) -> None:
    asked = [(chat(lm, profile), "A") for profile in PEOPLE] + [(chat(lm, PEOPLE[0]), "B")]
    found = [value for value, _ in lm.loglikelihood(requests("loglikelihood", *asked), disable_tqdm=True)]
    expected = [*(directly(lm, profile, "A") for profile in PEOPLE), directly(lm, PEOPLE[0], "B")]
    assert found == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in found[:3]}) == 3  # or else nothing was tested


def test_the_cache_never_gives_one_persons_answer_to_another(lm: CumaLM, tmp_path: Path) -> None:
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    first = cached.loglikelihood(requests("loglikelihood", (chat(lm, PEOPLE[0]), "A")))
    second = cached.loglikelihood(requests("loglikelihood", (chat(lm, PEOPLE[1]), "A"), (chat(lm, PEOPLE[2]), "A")))
    assert len({round(value, 4) for value, _ in (*first, *second)}) == 3
    again = cached.loglikelihood(requests("loglikelihood", *[(chat(lm, profile), "A") for profile in PEOPLE]))
    assert again == [*first, *second]


def test_rolling_texts_are_read_by_their_own_person_and_cached_so(lm: CumaLM, tmp_path: Path) -> None:
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    texts = [(mark(profile, QUESTION),) for profile in PEOPLE]
    together = cached.loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    alone = [lm.loglikelihood_rolling(requests("loglikelihood_rolling", text))[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-3)
    assert len({round(value, 3) for value in together}) == 3
    assert cached.loglikelihood_rolling(requests("loglikelihood_rolling", *texts)) == together


def test_generation_in_a_batch_is_generation_alone(lm: CumaLM) -> None:
    options = {"until": ["\n"], "max_gen_toks": 3}
    asked = [(chat(lm, profile), options) for profile in PEOPLE]
    together = lm.generate_until(requests("generate_until", *asked), disable_tqdm=True)
    alone = [lm.generate_until(requests("generate_until", each), disable_tqdm=True)[0] for each in asked]
    assert together == alone
    assert all(len(text) < 60 for text in together)


def test_a_small_local_task_runs_through_the_harness(lm: CumaLM) -> None:
    tasks = TaskManager(include_path=str(Path(__file__).with_name("tasks")), include_defaults=False)
    result = lm_eval.simple_evaluate(
        model=lm, tasks=["capitals"], task_manager=tasks, apply_chat_template=True, bootstrap_iters=0
    )
    assert result is not None
    assert result["results"]["capitals"]["sample_len"] == 3
    assert 0 <= result["results"]["capitals"]["acc,none"] <= 1


def test_a_request_that_would_be_cut_is_refused(lm: CumaLM) -> None:
    with pytest.raises(UnsupportedError, match="would cut it"):
        lm.loglikelihood(requests("loglikelihood", (mark(PEOPLE[0], "word " * 9000), "A")), disable_tqdm=True)


# ---- the same loader as `cuma chat` ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"), hidden_size=64, intermediate_size=128)


def test_a_runs_revision_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--someone--tiny"
    commits = ["0" * 40, "1" * 40]
    for seed, commit in enumerate(commits):
        base_folder(repository / "snapshots" / commit, seed=seed)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commits[0])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    words = ("backbone.model_name_or_path=someone/tiny", f"backbone.revision={commits[1]!r}")
    run = run_folder(tmp_path / "run", *words, recipe="persona")
    made = [CumaLM(run=str(run)), CumaLM(backbone="someone/tiny"), CumaLM(backbone="someone/tiny", revision=commits[1])]
    logits = [base_logits(lm.model) for lm in made]
    assert torch.equal(logits[0], base_logits(tiny_base(seed=1)))
    assert torch.equal(logits[1], base_logits(tiny_base(seed=0)))
    assert torch.equal(logits[2], logits[0])


def test_a_runs_quantisation_is_kept(base: Path, tmp_path: Path) -> None:
    words = (f"backbone.model_name_or_path={base}", "backbone.quantization=4bit")
    run = run_folder(tmp_path / "run", *words, recipe="persona")
    few, whole = CumaLM(run=str(run)).model, CumaLM(backbone=str(base)).model
    assert few.model.layers[0].self_attn.q_proj.weight.dtype == torch.uint8
    assert whole.model.layers[0].self_attn.q_proj.weight.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*loaded unverified")
def test_an_adapter_that_peft_wrote_is_taken_alone_and_in_a_run(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    adapter = lora_folder(base, tmp_path / "lora")
    run = run_folder(tmp_path / "run", *LORA, f"backbone.model_name_or_path={base}")
    lora_folder(base, run / "adapter")
    made = [CumaLM(run=str(run)), CumaLM(run=str(adapter)), CumaLM(backbone=str(base), adapter=str(adapter))]
    logits = [base_logits(lm.model) for lm in made]
    assert all(torch.equal(each, logits[0]) for each in logits)
    assert not torch.allclose(logits[0], base_logits(tiny_base()))


@pytest.mark.parametrize(("recipe", "words"), [("cuma", PREFIX), ("shuffled", ()), ("persona", ("data.exemplars=3",))])
def test_what_chat_refuses_is_refused_in_the_same_words(recipe: str, words: tuple[str, ...], tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", *words, recipe=recipe)
    chat = CliRunner().invoke(app, ["chat", str(run)])
    asked = ["run", "--model", "cuma", "--model_args", f"run={run}", "--tasks", "cuma_gss", "--limit", "1"]
    harness = CliRunner().invoke(app, ["lm-eval", *asked])
    assert chat.exit_code == harness.exit_code == EXIT_ERROR
    assert chat.stderr
    assert harness.stderr.endswith(chat.stderr)


def test_neither_or_both_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="either run=FOLDER or backbone=NAME"):
        CumaLM()
    with pytest.raises(ConfigError, match="either run=FOLDER or backbone=NAME"):
        CumaLM(run="runs/a", backbone="smollm2-135m")


def test_the_harness_knows_the_model_type() -> None:
    from lm_eval.api.registry import get_model

    register()
    assert get_model("cuma") is CumaLM
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["lm_eval.models"] == {"cuma": TARGET}


def test_our_tasks_are_whole() -> None:
    found = TaskManager(include_path=str(TASKS), include_defaults=False)
    assert sorted(found.all_tasks) == ["cuma_gss", "cuma_gss_persona", "cuma_wvs", "cuma_wvs_persona"]


@pytest.mark.parametrize(
    ("words", "added"),
    [
        (["run", "--tasks", "cuma_gss"], ["--include_path", str(TASKS)]),
        (["run", "--include_path", "mine"], []),
        (["run", "--help"], []),
    ],
)
def test_the_command_hands_its_words_on(words: list[str], added: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(list(sys.argv)))
    done = CliRunner().invoke(app, ["lm-eval", *words])
    if words[-1] != "--help":  # which is ours
        assert seen == [["lm-eval", *words, *added]], done.output
    else:
        assert "lm-evaluation-harness" in done.output
