"""Two processes, or a batch in parts, give the gradients of one process and one batch; each row keeps its person.

With λ = 0 the gradients are equal to rounding. The balance loss is a product of two means over tokens, so over a part
of the batch it is another number than over the whole; with λ > 0 two processes of two rows are what one process with
two parts of two rows is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from cuma.cli import app
from cuma.models.backbones import load_backbone
from cuma.runs.folder import Run
from helpers import ROOT
from helpers.paper import write_base

SCRIPT = str(ROOT / "tests" / "helpers" / "gradients.py")
ALONE = {
    "sft": ("sft", 4, 1, 0), "sft-parts": ("sft", 1, 4, 0), "sft-balanced": ("sft", 2, 2, 0.5),
    "sft-whole-balanced": ("sft", 4, 1, 0.5), "dpo": ("dpo", 4, 1, 0), "dpo-balanced": ("dpo", 2, 2, 0.5),
    "counts": ("counts", 4, 1, 0), "counts-parts": ("counts", 1, 4, 0),
    "letters": ("letters", 4, 1, 0), "letters-parts": ("letters", 1, 4, 0),
}  # fmt: skip
TWO = {
    "two-sft": ("sft", 2, 1, 0), "two-sft-balanced": ("sft", 2, 1, 0.5), "two-dpo": ("dpo", 2, 1, 0),
    "two-counts": ("counts", 2, 1, 0), "two-letters": ("letters", 1, 2, 0),
    "two-grpo": ("grpo", 4, 1, 0),
}  # fmt: skip
Gradients = dict[str, torch.Tensor]
SMALL = ["adapter.last_layers=1", "training.max_steps=2", "training.curve_steps=[]", "data.max_train=16"]
SMALL += ["adapter.router_aux_loss_coef=0", "training.learning_rate=1e-3", "training.warmup_steps=0"]
SMALL += ["training.logging_steps=1"]


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gradients]:
    load_backbone("smollm2-135m")  # makes the files, if they are not there: two processes must not both
    folder = tmp_path_factory.mktemp("gradients")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher, cases in (([], ALONE), (torchrun, TWO)):
        words = [str(word) for name, case in cases.items() for word in (folder / f"{name}.safetensors", *case)]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *launcher, SCRIPT, *words],
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    return {name: load_file(folder / f"{name}.safetensors") for name in ALONE | TWO}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sft", "sft-parts"),
        ("sft", "two-sft"),
        ("sft-balanced", "two-sft-balanced"),
        ("dpo", "two-dpo"),
        ("counts", "counts-parts"),
        ("counts", "two-counts"),
        ("letters", "letters-parts"),
        ("letters", "two-letters"),
    ],
)
def test_the_gradients_are_the_same(gradients: dict[str, Gradients], one: str, other: str) -> None:
    left, right = gradients[one], gradients[other]
    assert left.keys() == right.keys()
    assert any("router" in name for name in left)
    assert all(gradient.abs().max() > 0 for gradient in left.values())
    for name in left:
        rounding = 1e-4 * left[name].abs().max().item()  # entries that cancel are as inexact as the large ones
        torch.testing.assert_close(
            left[name], right[name], rtol=1e-4, atol=rounding, msg=lambda text, name=name: name + text
        )


def test_grpo_in_two_processes_asks_as_each_rows_own_person(gradients: dict[str, Gradients]) -> None:
    """In which process is asserted where it runs, in tests/helpers/gradients.py."""
    assert all(gradient.isfinite().all() for gradient in gradients["two-grpo"].values())
    assert any(gradient.abs().max() > 0 for gradient in gradients["two-grpo"].values())


def test_the_balance_loss_counts_and_depends_on_the_parts(gradients: dict[str, Gradients]) -> None:
    def router(name: str) -> torch.Tensor:
        return torch.cat([g.flatten() for key, g in gradients[name].items() if "router" in key])

    assert (router("sft-balanced") - router("sft")).norm() > 1e-3 * router("sft").norm()
    assert not torch.allclose(router("sft-balanced"), router("sft-whole-balanced"), rtol=1e-3)
    assert not torch.allclose(router("dpo-balanced"), router("dpo"), rtol=1e-3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a run of two steps on a tiny model."""
    base = write_base(tmp_path_factory.mktemp("tiny") / "base")
    return [*SMALL, f"backbone.model_name_or_path={base}"]


def test_a_batch_of_eight_is_eight_batches_of_one_from_the_command_line(tmp_path: Path, small: list[str]) -> None:
    found, logs = [], []
    for batch, parts in ((8, 1), (1, 8)):
        run = Run.open(trained(tmp_path / f"{batch}x{parts}", batch, parts, small))
        found.append(load_file(run.adapter / "adapter_model.safetensors"))
        logs.append([(row["loss"], row["grad_norm"]) for row in run.stages()[0].read_log() if "loss" in row])
    assert len(logs[0]) == 2
    # AdamW does not see the gradient's scale: a sum in the place of a mean would show here.
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-3)
    assert_close_weights(*found)


def test_two_processes_train_and_continue_what_one_would_train(tmp_path: Path, small: list[str]) -> None:
    alone = Run.open(trained(tmp_path / "alone", 8, 1, small))
    together = tmp_path / "together"
    sizes = ["training.per_device_train_batch_size=4", "training.save_steps=1", "--output-dir", str(together)]

    def start() -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
             "-m", "cuma", "train", "quickstart/gss/cuma", *small, *sizes],
            capture_output=True, text=True, timeout=200, check=False,
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert start().count("Next: cuma evaluate") == 1  # of two processes one speaks, and one writes
    run = Run.open(together)
    losses = [row["loss"] for row in run.stages()[0].read_log() if "loss" in row]
    np.testing.assert_allclose(losses, [r["loss"] for r in alone.stages()[0].read_log() if "loss" in r], rtol=1e-3)
    weights = load_file(run.adapter / "adapter_model.safetensors")
    assert_close_weights(load_file(alone.adapter / "adapter_model.safetensors"), weights)

    shutil.rmtree(run.adapter)
    shutil.rmtree(run.stages()[0].checkpoints / "checkpoint-2")
    shutil.rmtree(run.stages()[0].adapter)
    Run.open(together).update(status="training", stages=[])
    start()
    assert Run.open(together).info["resumed"] is True
    again = load_file(run.adapter / "adapter_model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


@pytest.mark.timeout(600)  # three trainings, each a process of its own
def test_of_two_that_start_at_the_same_moment_one_trains_and_after_a_kill_the_next_goes_on(
    tmp_path: Path, small: list[str]
) -> None:
    folder = tmp_path / "run"
    options = [*small, "training.max_steps=200", "training.save_steps=50", "training.per_device_train_batch_size=2"]
    command = [sys.executable, "-W", "ignore", "-m", "cuma", "train", "quickstart/gss/cuma", *options]
    command += ["--output-dir", str(folder)]
    two = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        deadline = time.monotonic() + 300
        while not list(folder.glob("stages/*/checkpoints/checkpoint-*/sha256.json")) or all(
            one.poll() is None for one in two
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        running = [one for one in two if one.poll() is None]
        assert len(running) == 1
        (refused,) = (one for one in two if one.poll() is not None)
        said = " ".join((refused.stdout.read() + refused.stderr.read()).split())
        assert refused.returncode == 2
        assert f"is in use by process {running[0].pid} on " in said
        assert Run.open(folder).info["status"] == "training"
        running[0].kill()
        running[0].wait()
    finally:
        for one in two:
            one.kill()
            one.communicate()
    done = subprocess.run([*command, "--resume-from-checkpoint", "true"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Run.open(folder).info["resumed"] is True


def assert_close_weights(one: Gradients, other: Gradients) -> None:
    """Where a gradient is nearly 0, AdamW's first steps turn its rounding into a step of full size."""
    assert all(tensor.abs().max() > 0 for name, tensor in one.items() if "lora_B" in name)
    for name in one:
        assert (one[name] - other[name]).norm() <= 5e-3 * one[name].norm(), name


def trained(folder: Path, batch: int, parts: int, options: list[str]) -> Path:
    """The folder of a run that the command line trained."""
    sizes = [f"training.per_device_train_batch_size={batch}", f"training.gradient_accumulation_steps={parts}"]
    done = CliRunner().invoke(app, ["train", "quickstart/gss/cuma", *options, *sizes, "--output-dir", str(folder)])
    assert done.exit_code == 0, done.output
    return folder
