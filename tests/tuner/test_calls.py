"""Calling an adapted model: what it needs, what it refuses, what it tells about its routing and its losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model, inject_adapter_in_model
from peft.utils.hotswap import hotswap_adapter

from cuma.errors import ProfileError, UnsupportedError
from cuma.tuner.context import current
from cuma.tuner.router import load_balancing_loss
from helpers.tiny import HIDDEN, PROFILE, adapted, base_logits, config, llama, logits, people, tokens

NAN = torch.full((3, PROFILE), float("nan"))
WRONG_PROFILES = [
    (None, "profile_embeds is missing.*encoder"),
    (people(2), "2 rows but the batch has 3.*one row per"),
    (people(3, dim=5), r"5 columns.*built for 6.*profile_dim=5"),
    (NAN, "NaN"),
    (NAN.nan_to_num(float("inf")), "infinite"),
    (people(3)[0], r"\[B, 6\].*got \[6\]"),
    (people(3).unsqueeze(1), r"got \[3, 1, 6\]"),
    (people(3).tolist(), "got list"),
    ("a 55-year-old Buddhist", "got str"),
]


@pytest.mark.parametrize(("embeds", "reason"), WRONG_PROFILES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("router_input", ["joint", "profile"])
def test_wrong_profiles_are_refused_with_the_fix(embeds: object, reason: str, router_input: str) -> None:
    model = adapted(router_input=router_input)
    with pytest.raises(ProfileError, match=reason) as raised:
        model(input_ids=tokens(3), profile_embeds=embeds)
    with pytest.raises(ProfileError, match=reason):
        model.generate(input_ids=tokens(3), profile_embeds=embeds, max_new_tokens=1)
    assert "Buddhist" not in str(raised.value)
    assert current() is None
    logits(model)  # and the next call is a clean one


def test_embedded_inputs_are_counted_too() -> None:
    model = adapted()
    with pytest.raises(ProfileError, match="2 rows"):
        model(inputs_embeds=torch.randn(3, 4, HIDDEN), profile_embeds=people(2))
    assert model(inputs_embeds=torch.randn(3, 4, HIDDEN), profile_embeds=people(3)).logits.shape[:2] == (3, 4)


def test_calling_the_base_model_directly_is_refused() -> None:
    model = adapted()
    with pytest.raises(ProfileError, match="PeftModel"):
        model.get_base_model()(input_ids=tokens(3))


def test_a_semantic_router_needs_no_profile_and_ignores_one() -> None:
    model = adapted(router_input="semantic")
    with_profile = logits(model)
    assert torch.equal(model(input_ids=tokens(3)).logits, with_profile)
    assert not torch.equal(with_profile, base_logits(llama()))


def test_the_same_person_in_any_dtype() -> None:
    model = adapted()
    embeds = people(3).half()
    assert torch.equal(logits(model, profile_embeds=embeds), logits(model, profile_embeds=embeds.double()))


def test_an_error_inside_the_model_leaves_nothing_behind() -> None:
    model = adapted()
    with pytest.raises(IndexError):
        model(input_ids=tokens(3) + 1000, profile_embeds=people(3))
    assert current() is None
    with pytest.raises(ProfileError, match="directly"):
        model.get_base_model()(input_ids=tokens(3))


# ---- what a mixture cannot do ---------------------------------------------------------------------------------------

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
ROW_NAMES = {"input_ids": tokens(3), "profile_embeds": people(3), "adapter_names": ["default"] * 3}
REFUSED: dict[str, tuple[Callable[[PeftModel], object], str]] = {
    "merge_and_unload": (lambda m: m.merge_and_unload(), "cuma export"),
    "merge_adapter": (lambda m: m.merge_adapter(), "cuma export"),
    "unmerge_adapter": (lambda m: m.unmerge_adapter(), "cuma export"),
    "layer.merge": (lambda m: m.get_submodule(FIRST).merge(), "cuma export"),
    "add_weighted_adapter": (lambda m: m.add_weighted_adapter(["default"], [1.0], "mixed"), "cuma export"),
    "PeftModel.set_adapter": (lambda m: m.set_adapter(["default", "default"]), "Activate one"),
    "CumaModel.set_adapter": (lambda m: m.base_model.set_adapter(["default", "default"]), "Activate one"),
    "adapter_names": (lambda m: m(**ROW_NAMES), "profile_embeds"),
    "adapter_names in generate": (lambda m: m.generate(**ROW_NAMES, max_new_tokens=1), "profile_embeds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_way_out(name: str) -> None:
    model = adapted()
    before = logits(model)
    act, way_out = REFUSED[name]
    with pytest.raises(UnsupportedError, match=way_out):
        act(model)
    assert torch.equal(logits(model), before)
    assert model.active_adapters == ["default"]


def test_mixed_models_are_refused() -> None:
    base = llama()
    with pytest.raises(UnsupportedError, match=r"PeftMixedModel.*mixed=True"):
        get_peft_model(base, config(), mixed=True)
    assert torch.equal(base_logits(base), base_logits(llama()))


def test_hotswap_is_refused(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(tmp_path)
    before = logits(model)
    with pytest.raises(UnsupportedError, match=r"hotswap.*load_adapter"):
        hotswap_adapter(model, str(tmp_path), adapter_name="default")
    assert torch.equal(logits(model), before)


def test_injecting_without_a_tuner_is_refused_by_peft() -> None:
    with pytest.raises(ValueError, match="get_peft_model"):
        inject_adapter_in_model(config(), llama())


# ---- the load-balancing loss ----------------------------------------------------------------------------------------


def test_loss_and_aux_loss_while_training() -> None:
    model = adapted(router_aux_loss_coef=0.5).train()
    ids = tokens(3)
    output = model(input_ids=ids, labels=ids, profile_embeds=people(3))
    task = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(output.loss, task + 0.5 * output["aux_loss"])
    unlabelled = model(input_ids=ids, profile_embeds=people(3))
    torch.testing.assert_close(unlabelled.aux_loss, output.aux_loss)


def test_aux_loss_only_when_wanted() -> None:
    model, inputs = adapted(), {"input_ids": tokens(3), "labels": tokens(3), "profile_embeds": people(3)}
    quiet = model(**inputs)
    assert "aux_loss" not in quiet
    asked = model(**inputs, output_router_logits=True)
    assert asked.aux_loss > 0
    with torch.no_grad():
        assert torch.equal(model(**inputs, output_router_logits=True).loss, quiet.loss)


def recorded_logits(model: PeftModel, **inputs: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What every router said, and the aux_loss of that forward."""
    said: list[torch.Tensor] = []
    routers = [module for name, module in model.named_modules() if name.endswith("cuma_router.default")]
    hooks = [router.register_forward_hook(lambda _, __, out: said.append(out.logits)) for router in routers]
    output = model(**inputs, output_router_logits=True)
    for hook in hooks:
        hook.remove()
    return said, output.aux_loss


@pytest.mark.parametrize("share_router", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_aux_loss_is_the_mean_over_routers_of_real_tokens(share_router: bool, side: str) -> None:
    model = adapted(share_router=share_router)
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[0, slice(3) if side == "left" else slice(4, None)] = 0
    said, aux = recorded_logits(model, input_ids=tokens(3), attention_mask=mask, profile_embeds=people(3))
    assert len(said) == (2 if share_router else 4)
    torch.testing.assert_close(aux, torch.stack([load_balancing_loss(one, 2, mask) for one in said]).mean())
    assert not torch.isclose(aux, torch.stack([load_balancing_loss(one, 2) for one in said]).mean())


def test_padding_does_not_change_the_aux_loss() -> None:
    model, who = adapted(), people(2)
    short = model(input_ids=tokens(2), profile_embeds=who, output_router_logits=True).aux_loss
    padded = torch.cat([tokens(2), torch.zeros(2, 4, dtype=torch.long)], 1)
    mask = (padded != 0).long()
    long = model(input_ids=padded, attention_mask=mask, profile_embeds=who, output_router_logits=True).aux_loss
    torch.testing.assert_close(short, long)


def test_a_tuple_has_no_place_for_the_balance_loss() -> None:
    inputs = {"input_ids": tokens(3), "labels": tokens(3), "profile_embeds": people(3), "return_dict": False}
    with pytest.raises(UnsupportedError, match=r"return_dict=False.*router_aux_loss_coef=0"):
        adapted().train()(**inputs)
    loss, *_ = adapted(router_aux_loss_coef=0).train()(**inputs)
    loss.backward()
    assert isinstance(adapted()(**inputs), tuple)


# ---- routing --------------------------------------------------------------------------------------------------------


def test_routing_has_to_be_recorded_first() -> None:
    model = adapted()
    with pytest.raises(UnsupportedError, match="record_routing"):
        model.routing()
    logits(model)
    with pytest.raises(UnsupportedError, match="record_routing"):
        model.routing()


def test_routing_of_the_last_recorded_forward() -> None:
    model = adapted()
    with model.record_routing():
        logits(model, rows=2)
        logits(model, rows=3)
    logits(model, rows=1)
    routing = model.routing()
    assert list(routing) == [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)]
    for gates in routing.values():
        assert gates.shape == (3, 7, 4)
        assert not gates.requires_grad
        torch.testing.assert_close(gates.sum(-1), torch.ones(3, 7))
        assert ((gates > 0).sum(-1) <= 2).all()


def test_profile_routers_send_all_tokens_of_a_person_the_same_way() -> None:
    model = adapted(router_input="profile")
    with model.record_routing():
        logits(model)
    for gates in model.routing().values():
        assert torch.equal(gates, gates[:, :1].expand_as(gates))
        assert not torch.equal(gates[0], gates[1])


def test_recording_while_training_with_checkpointing() -> None:
    model = adapted().train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = tokens(3)
    with model.record_routing():
        output = model(input_ids=ids, labels=ids, profile_embeds=people(3))
        before = model.routing()
        output.loss.backward()
    assert all(torch.equal(before[name], gates) for name, gates in model.routing().items())
