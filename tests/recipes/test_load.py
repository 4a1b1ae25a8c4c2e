"""Recipes: what is read, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuma.errors import RecipeError
from cuma.recipes import strict_yaml
from cuma.recipes.load import Recipe, load_recipe, packaged_recipes
from cuma.recipes.schema import ADDED, IDENTITY, TRACKING


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def refused(recipe: str | Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipes_load_and_open_with_the_command_that_runs_them(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert packaged_recipes()[name].read_text(encoding="utf-8").splitlines()[0] == f"# cuma train {name}"


@pytest.mark.parametrize("benchmark", ["gss", "wvs"])
def test_quickstart_methods_differ_only_where_they_must(benchmark: str) -> None:
    recipes = {name: load_recipe(f"quickstart/{benchmark}/{name}") for name in ("cuma", "lora", "semantic", "shuffled")}
    assert len({recipe.digest for recipe in recipes.values()}) == 4
    assert {recipe.training.max_steps for recipe in recipes.values()} == {recipes["cuma"].training.max_steps}
    assert {recipe.training.curve_steps for recipe in recipes.values()} == {recipes["cuma"].training.curve_steps}
    assert {recipe.data.benchmark for recipe in recipes.values()} == {benchmark}
    assert recipes["shuffled"].adapter == recipes["cuma"].adapter
    assert recipes["shuffled"].training == recipes["cuma"].training
    assert recipes["shuffled"].data.shuffle_profiles
    assert not recipes["cuma"].data.shuffle_profiles


@pytest.mark.parametrize("name", packaged_recipes())
def test_to_yaml_round_trips(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    again = load_recipe(write(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.digest == recipe.digest


def test_defaults_fill_what_a_file_leaves_out(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "seed: 3\ntraining:\n  max_steps: 7\n"))
    assert recipe.seed == 3
    assert recipe.training.max_steps == 7
    assert recipe.training.learning_rate == Recipe().training.learning_rate
    assert recipe.name == recipe.label == "mine"
    assert load_recipe(write(tmp_path, "training:\n", "empty section.yaml")).name == "empty-section"


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe().training.max_steps = 5  # type: ignore[misc]


def test_digest_ignores_order_comments_and_names(tmp_path: Path) -> None:
    one = load_recipe(write(tmp_path, "seed: 1\ntraining:\n  max_steps: 5\n  learning_rate: 1e-3\n", "one.yaml"))
    two = load_recipe(
        write(
            tmp_path,
            "# why\ntraining: {learning_rate: 0.001, max_steps: 5}\nlabel: Other\nseed: 1\n",
            "two.yaml",
        )
    )
    assert one.digest == two.digest
    assert one.digest != load_recipe(tmp_path / "one.yaml", ["training.max_steps=6"]).digest
    assert (
        one.digest == load_recipe(tmp_path / "one.yaml", ["training.report_to=[wandb]", "training.run_name=x"]).digest
    )


def test_a_key_that_recipes_did_not_always_have_counts_only_where_it_changes_something() -> None:
    recipe = Recipe()
    values = {name: value for name, value in asdict(recipe).items() if name not in IDENTITY}
    for section, name in (*(("training", name) for name in TRACKING), *ADDED):
        del values[section][name]
    before = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]  # as it was without them
    assert recipe.digest == before
    for (section, name), other in {("training", "adam_beta2"): 0.95, ("backbone", "chat_template"): "{{ 1 }}"}.items():
        assert (section, name) in ADDED
        changed = replace(getattr(recipe, section), **{name: other})
        assert replace(recipe, **{section: changed}).digest != before


def test_a_runs_recipe_holds_the_text_of_its_chat_template(tmp_path: Path) -> None:
    text = "{%- for m in messages %}\n  <{{ m['role'] }}>: {{ m['content'] }}\n\n{%- endfor %}\t'\"\\u2028é\u2028 \n"
    file = tmp_path / "mine.jinja"
    file.write_text(text, encoding="utf-8")
    recipe = load_recipe("quickstart/gss/cuma", [f"backbone.chat_template={file}"])
    assert recipe.backbone.chat_template == text
    (tmp_path / "kept.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    file.unlink()
    again = load_recipe(tmp_path / "kept.yaml")
    assert again == recipe
    assert again.digest == recipe.digest != load_recipe("quickstart/gss/cuma").digest
    with pytest.raises(RecipeError, match=r"mine.jinja', which cannot be read \(FileNotFoundError\)"):
        load_recipe("quickstart/gss/cuma", [f"backbone.chat_template={file}"])
    file.write_text("no template at all", encoding="utf-8")
    with pytest.raises(RecipeError, match="holds no Jinja template"):
        load_recipe("quickstart/gss/cuma", [f"backbone.chat_template={file}"])


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.learning_rate=1e-3", lambda recipe: recipe.training.learning_rate == 1e-3),
        ("training.learning_rate=2.5E+1", lambda recipe: recipe.training.learning_rate == 25.0),
        ("training.learning_rate=1", lambda recipe: recipe.training.learning_rate == 1.0),
        ("adapter.last_layers=null", lambda recipe: recipe.adapter.last_layers is None),
        (
            "adapter.target_modules=[q_proj, k_proj]",
            lambda recipe: recipe.adapter.target_modules == ("q_proj", "k_proj"),
        ),
        ("training.bf16=true", lambda recipe: recipe.training.bf16 is True),
        ("seed=11", lambda recipe: recipe.seed == 11),
        ("encoder.template='A person: {profile}'", lambda recipe: recipe.encoder.template == "A person: {profile}"),
        ("label=a=b", lambda recipe: recipe.label == "a=b"),
    ],
)
def test_overrides(override: str, read) -> None:  # type: ignore[no-untyped-def]
    assert read(load_recipe("quickstart/gss/cuma", [override]))


def test_the_last_override_wins() -> None:
    assert load_recipe("quickstart/gss/cuma", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("as_override", [True, False])
def test_unknown_key_names_file_suggestion_and_choices(as_override: bool, tmp_path: Path) -> None:
    if as_override:
        text = refused("quickstart/gss/cuma", "training.lerning_rate=1e-3")
    else:
        file = write(tmp_path, "training:\n  lerning_rate: 1e-3\n")
        text = refused(file)
        assert str(file) in text
    assert "unknown key 'training.lerning_rate'" in text
    assert "Did you mean 'training.learning_rate'?" in text
    assert "training.max_steps" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learning_rate: 1e-3\n", ["'learning_rate'", "Did you mean 'training.learning_rate'?"]),
        ("trainig:\n  max_steps: 1\n", ["'trainig'", "Did you mean 'training'?"]),
        ("training: 5\n", ["'training'", "a number", "max_steps"]),
        ("- seed\n", ["a list", "key: value"]),
        ("seed: 1\nseed: 2\n", ["line 2", "'seed'", "twice"]),
        ("training:\n  bf16: true\n  max_steps: 1\n  bf16: false\n", ["line 4", "'bf16'", "twice"]),
        ("seed: [1\n", ["line"]),
        ("seed: !!python/object:os.system {}\n", ["line 1"]),
        ("training:\n  bf16: yes\n", ["'training.bf16'", "'yes'", "boolean"]),
        ("adapter:\n  r: '8'\n", ["'adapter.r'", "'8'", "integer"]),
        ("adapter:\n  r: true\n", ["'adapter.r'", "True", "integer"]),
        ("adapter:\n  r: 0\n", ["'adapter.r'", "0", "greater than or equal to 1"]),
        (
            "adapter:\n  method: loora\n",
            ["'adapter.method'", "'loora'", "Did you mean 'lora'? Available: cuma, dora, full, lora, none, prefix"],
        ),
        ("training:\n  learning_rate: .nan\n", ["'training.learning_rate'", "finite"]),
        ("encoder:\n  template: hello\n", ["'encoder.template'", "profile"]),
        ("name: ../elsewhere\n", ["'name'", "../elsewhere"]),
        ("base: 3\n", ["'base'", "3"]),
        ("base: quickstart/gss/cumma\n", ["quickstart/gss/cumma", "Did you mean 'quickstart/gss/cuma'?"]),
    ],
)
def test_refusals_name_what_was_got_and_expected(content: str, words: list[str], tmp_path: Path) -> None:
    text = refused(write(tmp_path, content))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["data.profile_in=prompt"], "data.profile_in"),
        (["adapter.router_input=semantic"], "data.profile_in"),
        (["adapter.method=none"], "kind"),
        (["kind=untrained"], "adapter.method"),
        (["adapter.method=lora", "data.profile_in=prompt", "data.shuffle_profiles=true"], "shuffle_profiles"),
        (["adapter.top_k=9"], "num_experts"),
        (["training.num_train_epochs=1"], "training.max_steps"),
        (["training.max_steps=null"], "training.num_train_epochs"),
        (["training.max_steps=null", "training.num_train_epochs=1"], "warmup_stable_decay"),
        (["dpo.max_steps=null"], "dpo.num_train_epochs"),
        (["data.exemplars=2"], "data.exemplars"),
        (["adapter.method=prefix", "data.profile_in=prompt"], "keep_frozen_layers"),
        (["training.gradient_checkpointing=true"], "keep_frozen_layers"),
        (["adapter.method=full", "data.profile_in=prompt", "backbone.dtype=bfloat16"], "training.bf16"),
        (["adapter.method=full", "data.profile_in=prompt", "backbone.quantization=4bit"], "backbone.quantization"),
        (["grpo.reward=judge"], "judge.model"),
        (["judge.api_key=sk-1"], "Did you mean 'judge.api_key_env'?"),
        (["training=5"], "key=value"),
        (["training.max_steps"], "key=value"),
        (["base=quickstart/gss/lora"], "unknown key"),
        (["training.max_steps=[1"], "training.max_steps=[1"),
        (["trainin.max_steps=1"], "Did you mean 'training'?"),
    ],
)
def test_contradictions_and_bad_overrides(overrides: list[str], word: str) -> None:
    assert word in refused("quickstart/gss/cuma", *overrides)


def test_neither_a_file_nor_a_name(tmp_path: Path) -> None:
    assert "Did you mean 'quickstart/gss/cuma'?" in refused("quickstart/gs/cuma")
    assert "`cuma list recipes`" in refused(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"label: caf\xe9\n")
    assert "UTF-8" in refused(tmp_path / "latin.yaml")


def test_base_gives_what_a_recipe_leaves_out_but_not_its_name(tmp_path: Path) -> None:
    write(tmp_path, "base: quickstart/gss/cuma\ntraining: {max_steps: 9}\n", "middle.yaml")
    recipe = load_recipe(write(tmp_path, "base: middle.yaml\nadapter: {r: 4}\n", "top.yaml"))
    packaged = load_recipe("quickstart/gss/cuma")
    assert recipe.training.max_steps == 9
    assert recipe.adapter.r == 4
    assert recipe.adapter.num_experts == packaged.adapter.num_experts
    assert (recipe.name, recipe.label, recipe.description) == ("top", "top", "")


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "base: two.yaml\n", "one.yaml")
    write(tmp_path, "base: one.yaml\n", "two.yaml")
    assert "one.yaml → two.yaml → one.yaml" in refused(tmp_path / "one.yaml")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text(), SCALARS | st.lists(SCALARS)))
def test_yaml_gives_back_what_was_dumped(value: dict[str, object]) -> None:
    assert strict_yaml.parse(strict_yaml.dump(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("12", 12),
        ("010", "010"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("e5", "e5"),
        ("", None),
        ("~", None),
    ],
)
def test_plain_scalars_are_what_they_look_like(text: str, value: object) -> None:
    read = strict_yaml.parse(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("other", ["data.shuffle_profiles=true", "data.profile_in=nowhere"])
def test_profile_dropout_without_profiles_is_refused(other: str) -> None:
    router = ["adapter.router_input=semantic"] if "nowhere" in other else []
    with pytest.raises(RecipeError, match="profile_dropout"):
        load_recipe("quickstart/gss/cuma", [*router, "training.profile_dropout=0.5", other])
