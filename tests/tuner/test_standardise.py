"""Mean, scale and projection of the profiles: set once, never trained, saved and copied with the adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from cuma.errors import ProfileError
from cuma.tuner.standardise import Standardiser
from helpers.tiny import HIDDEN, PROFILE, adapted, config, llama, logits, people, step, tokens

DTYPES = [torch.float64, torch.float16, torch.bfloat16]


def fitted(hidden: int = HIDDEN, **options: object) -> Standardiser:
    standardiser = Standardiser(hidden, config(**options))
    standardiser.fit(people(50))
    return standardiser


def rms_norm(standard: torch.Tensor) -> float:
    return float(standard.detach().square().sum(-1).mean().sqrt())


@pytest.mark.parametrize(("hidden", "target"), [(576, 6.0), (4096, 16.0), (HIDDEN, HIDDEN**0.5 / 4)])
def test_profiles_enter_with_the_weight_of_the_hidden_state(hidden: int, target: float) -> None:
    standard = fitted(hidden)(people(50))
    assert rms_norm(standard) == pytest.approx(target, rel=1e-5)
    torch.testing.assert_close(standard.mean(0), torch.zeros(PROFILE), rtol=0, atol=1e-5)


def test_profile_scale_overrides_the_target() -> None:
    assert rms_norm(fitted(profile_scale=20)(people(50))) == pytest.approx(20, rel=1e-5)


@pytest.mark.parametrize("projected", [None, 3])
def test_the_empty_profile_is_the_zero_vector(projected: int | None) -> None:
    embeds = people(3)
    embeds[1] = 0
    standard = fitted(profile_projection_dim=projected)(embeds)
    assert torch.equal(standard[1], torch.zeros(projected or PROFILE))
    assert (standard[[0, 2]] != 0).all()


def test_empty_profiles_do_not_move_the_statistics() -> None:
    with_empty, without = Standardiser(HIDDEN, config()), fitted()
    with_empty.fit(torch.cat([people(50), torch.zeros(30, PROFILE)]))
    assert torch.equal(with_empty.mean, without.mean)
    assert torch.equal(with_empty.scale, without.scale)


def test_projection_keeps_the_expected_norm() -> None:
    torch.manual_seed(0)
    wide = Standardiser(576, config(profile_projection_dim=2000))
    wide.fit(people(50))
    assert rms_norm(wide(people(50))) == pytest.approx(6, rel=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_floating_dtype_is_taken_as_the_same_person(dtype: torch.dtype) -> None:
    standardiser, embeds = fitted(), people(4).to(dtype)
    assert torch.equal(standardiser(embeds), standardiser(embeds.float()))
    assert standardiser(embeds).dtype == torch.float32


def test_whole_numbers_are_taken_too() -> None:
    standardiser = Standardiser(HIDDEN, config())
    standardiser.fit(torch.eye(PROFILE, dtype=torch.long))
    assert torch.isfinite(standardiser(torch.eye(PROFILE, dtype=torch.long))).all()


def test_a_tiny_half_precision_row_is_not_the_empty_profile() -> None:
    embeds = torch.zeros(1, PROFILE, dtype=torch.float16)
    embeds[0, 2] = 6e-8
    assert fitted()(embeds).abs().sum() > 0


def test_autocast_does_not_reach_the_projection() -> None:
    standardiser = fitted(profile_projection_dim=4)
    expected = standardiser(people(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(standardiser(people(3)), expected)


def test_refitting_replaces_the_statistics() -> None:
    standardiser = fitted()
    standardiser.fit(5 * people(50, seed=9) + 3)
    assert rms_norm(standardiser(5 * people(50, seed=9) + 3)) == pytest.approx(HIDDEN**0.5 / 4, rel=1e-4)


@pytest.mark.parametrize(
    ("embeds", "reason"),
    [
        (torch.zeros(0, PROFILE), "0 non-empty rows"),
        (torch.zeros(5, PROFILE), "0 non-empty rows"),
        (people(1), "1 non-empty rows"),
        (people(1).expand(7, -1), "7 non-empty rows"),
        (people(5, dim=PROFILE + 1), f"profile_dim={PROFILE + 1}"),
        (people(5)[0], r"\[B, 6\]"),
        (torch.full((5, PROFILE), float("nan")), "NaN"),
    ],
)
def test_nothing_to_fit_is_an_error(embeds: torch.Tensor, reason: str) -> None:
    standardiser = fitted()
    before = standardiser.mean.clone(), standardiser.scale.clone()
    with pytest.raises(ProfileError, match=reason):
        standardiser.fit(embeds)
    assert torch.equal(standardiser.mean, before[0])
    assert torch.equal(standardiser.scale, before[1])


@pytest.mark.parametrize("projected", [None, 3])
def test_training_leaves_the_statistics_and_moves_the_projection(projected: int | None) -> None:
    model = adapted(profile_projection_dim=projected)
    standardiser = model.base_model.cuma_profile["default"]
    before = {name: tensor.clone() for name, tensor in standardiser.state_dict().items()}
    step(model)
    after = standardiser.state_dict()
    assert torch.equal(after["mean"], before["mean"])
    assert torch.equal(after["scale"], before["scale"])
    if projected:
        assert not torch.equal(after["projection.weight"], before["projection.weight"])


def test_training_an_unfitted_adapter_raises() -> None:
    model = adapted()
    model.base_model.cuma_profile["default"].scale.zero_()
    with pytest.raises(ProfileError, match="fit_profiles"):
        step(model)
    logits(model)  # looking at it is allowed


def test_statistics_are_saved_and_loaded(tmp_path: Path) -> None:
    model = adapted(profile_projection_dim=3)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path, adapter_name="other")
    ours, theirs = model.base_model.cuma_profile["default"], loaded.base_model.cuma_profile["other"]
    for name, tensor in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor)
    assert theirs.fitted


def test_fit_profiles_of_what_is_not_there() -> None:
    with pytest.raises(ProfileError, match="semantic"):
        adapted(router_input="semantic").fit_profiles(people(5))
    with pytest.raises(ProfileError, match="default"):
        adapted().fit_profiles(people(5), adapter_name="nobody")


def test_profiles_matter() -> None:
    model = adapted()
    asked = tokens(1).expand(3, -1)
    answers = logits(model, input_ids=asked)
    assert not torch.allclose(answers[0], answers[1])
