"""The conditioning reaches the right layers: checkpointing, overlapping calls, threads."""

from __future__ import annotations

import functools
import threading

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cuma.errors import UnsupportedError
from cuma.tuner.context import CarryingCheckpoint, Conditioning, conditioned, current
from helpers.tiny import adapted, classifier, people, tokens

OPTIONS = [
    {"router_aux_loss_coef": 0.3},
    {"router_aux_loss_coef": 0.3, "lora_dropout": 0.3},
    {"router_aux_loss_coef": 0.3, "router_input": "semantic", "share_router": False},
    {"router_aux_loss_coef": 0.3, "router_input": "profile", "profile_projection_dim": 3},
    {"router_aux_loss_coef": 0.3, "target_modules": "all-linear", "top_k": 1},
]


def checkpointed(model: PeftModel, reentrant: bool = False) -> PeftModel:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    return model


def loss_of(model: PeftModel, seed: int = 0, only_aux: bool = False) -> Tensor:
    ids = tokens(3, seed=seed)
    output = model(input_ids=ids, labels=ids, profile_embeds=people(3, seed=seed))
    return output.aux_loss if only_aux else output.loss


def gradients(model: PeftModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert left
    for name, gradient in left.items():
        torch.testing.assert_close(gradient, right[name], rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("only_aux", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_checkpointing_changes_no_gradient(options: dict[str, object], only_aux: bool) -> None:
    found = []
    for prepare in (lambda model: model, checkpointed):
        model = prepare(adapted(**options)).train()
        torch.manual_seed(7)  # dropout
        loss_of(model, only_aux=only_aux).backward()
        found.append(gradients(model))
    assert_same(*found)
    assert any(gradient.abs().sum() > 0 for name, gradient in found[0].items() if "cuma_router" in name)


@pytest.mark.parametrize("options", OPTIONS[2:])
def test_two_forwards_before_a_backward(options: dict[str, object]) -> None:
    """The second call has other people: what is kept on the modules is theirs when the first is recomputed."""
    plain, model = adapted(**options).train(), checkpointed(adapted(**options)).train()
    (loss_of(plain, 0) + 2 * loss_of(plain, 1)).backward()
    (loss_of(model, 0) + 2 * loss_of(model, 1)).backward()
    assert_same(gradients(plain), gradients(model))
    first, second = loss_of(model, 0), loss_of(model, 1)
    second.backward()
    first.backward()
    both = gradients(model)
    (loss_of(plain, 0) + loss_of(plain, 1)).backward()
    assert_same(gradients(plain), both)


def test_a_forward_without_gradients_in_between() -> None:
    """DPO runs its reference, another adapter, between the policy's forward and backward."""
    plain, model = adapted().train(), checkpointed(adapted()).train()
    for one in (plain, model):
        loss = loss_of(one)
        with torch.no_grad(), one.disable_adapter():
            one(input_ids=tokens(2), profile_embeds=people(2))
        with torch.no_grad():
            one(input_ids=tokens(2, seed=5), profile_embeds=people(2, seed=5))
        loss.backward()
    assert_same(gradients(plain), gradients(model))


def test_a_classifier_under_checkpointing() -> None:
    found = []
    for prepare in (lambda model: model, checkpointed):
        model = prepare(adapted(classifier(), task_type="SEQ_CLS")).train()
        labels = torch.tensor([0, 1, 2])
        model(input_ids=tokens(3), profile_embeds=people(3), labels=labels).loss.backward()
        found.append(gradients(model))
    assert_same(*found)


def test_trainers_may_install_a_new_checkpoint_function_at_any_time() -> None:
    """transformers' Trainer enables checkpointing again at the start of train(), TRL swaps the function itself."""
    plain, model = adapted().train(), checkpointed(adapted()).train()
    loss_of(model)
    checkpointed(model)
    loss_of(model).backward()
    again = gradients(model)
    for layer in model.get_base_model().model.layers:
        layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    loss_of(model).backward()
    swapped = gradients(model)
    loss_of(plain).backward()
    expected = gradients(plain)
    assert_same(expected, again)
    assert_same(expected, swapped)
    model.gradient_checkpointing_disable()
    loss_of(model).backward()
    assert_same(expected, gradients(model))


def test_wrapping_is_done_once() -> None:
    model = checkpointed(adapted()).train()
    for _ in range(3):
        loss_of(model)
    for layer in model.get_base_model().model.layers:
        assert isinstance(layer._gradient_checkpointing_func, CarryingCheckpoint)
        assert not isinstance(layer._gradient_checkpointing_func.checkpoint, CarryingCheckpoint)


def test_an_unloaded_base_still_trains_with_checkpointing() -> None:
    model = checkpointed(adapted()).train()
    loss_of(model)
    base = model.unload().train()
    base.requires_grad_(True)
    base(input_ids=tokens(2), labels=tokens(2)).loss.backward()
    assert base.model.layers[0].self_attn.q_proj.weight.grad is not None


@pytest.mark.parametrize("options", OPTIONS[2:4])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*use_reentrant.*:UserWarning")
def test_reentrant_checkpointing_is_refused_by_name(options: dict[str, object]) -> None:
    model = checkpointed(adapted(**options), reentrant=True).train()
    model.enable_input_require_grads()
    with pytest.raises(UnsupportedError, match=r'reentrant.*"use_reentrant": False'):
        loss_of(model)
    assert current() is None
    with torch.no_grad():
        loss_of(model)  # without gradients there is nothing to lose


def test_threads_do_not_see_each_others_people() -> None:
    model = adapted()
    inputs = [{"input_ids": tokens(2, 20, seed=i), "profile_embeds": people(2, seed=i)} for i in range(2)]
    with torch.no_grad():
        expected = [model(**one).logits for one in inputs]
    wrong: list[int] = []
    ready = threading.Barrier(2)

    def ask(which: int) -> None:
        ready.wait()
        for _ in range(15):
            with torch.no_grad():
                if not torch.equal(model(**inputs[which]).logits, expected[which]):
                    wrong.append(which)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_conditioning_ends_with_its_call() -> None:
    with conditioned(Conditioning()) as call:
        assert current() is call
        with conditioned(Conditioning()) as inner:
            assert current() is inner
        assert current() is call
    assert current() is None


def test_nothing_is_kept_alive_between_layers() -> None:
    """Only a weak reference to the routed input: under checkpointing its memory must be free to go."""
    import gc
    import weakref

    model = adapted()
    seen: list[weakref.ref[Tensor]] = []
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(weakref.ref(inputs[0])))
    with torch.no_grad():
        model(input_ids=tokens(1), profile_embeds=people(1))
    gc.collect()
    assert seen[0]() is None
