"""Training that is killed: SIGKILL at a random step, or in the middle of saving, then the same command again.

    make soak                        # 40 kills, SFT and DPO in turn; `make test` does 3

Each killed run must go on from a whole checkpoint and end with the very weights of a run that nobody disturbed. Every
run is a process of its own, forked from one that has loaded the libraries.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a forked process must not wait for threads that it has not got
sys.path.insert(0, str(Path(__file__).parents[1]))

from datasets import Dataset, disable_progress_bars
from safetensors.torch import save_file
from transformers import PrinterCallback
from trl import DPOConfig, SFTConfig

from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.training import checkpoints
from cuma.training.trainers import CumaDPOTrainer, CumaSFTTrainer
from helpers.preferences import COMMON, PAIRS, PEOPLE, mixture

STEPS, SAVE_STEPS = 8, 2
OPTIONS = COMMON | {"max_steps": STEPS, "save_steps": SAVE_STEPS, "save_strategy": "steps", "save_total_limit": 2}
SAVING = ("_save_optimizer_and_scheduler", "_save_rng_state", "_save_checkpoint")
"""Parts of saving in or behind which a run can be killed; behind the last, the checkpoint is whole but not sealed."""
Plan = Callable[[Any], None]
"""What is done to a trainer so that it kills itself."""


def main() -> int:
    """Kill as often as asked; the exit status says whether every run ended right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    disable_progress_bars()
    in_a_process(
        prepare
    )  # what is computed starts threads, which forks would lack: here everything is read from caches
    tokenizer, table = prepare()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as home:
        expected: dict[str, bytes] = {}
        for number in range(arguments.kills):
            kind = ("sft", "dpo")[number % 2]
            if kind not in expected:
                in_a_process(partial(train, kind, Path(home, kind), tokenizer, table))
                expected[kind] = weights(Path(home, kind))
            name, plan = draw_plan(rng)
            folder = Path(home, f"{number}-{kind}")
            again = partial(train, kind, folder, tokenizer, table)
            if in_a_process(partial(again, plan)) != -signal.SIGKILL:
                raise AssertionError(f"{kind}: the run was not killed {name}")
            if in_a_process(again) != 0:
                raise AssertionError(f"{kind}: the run killed {name} did not go on")
            same = weights(folder) == expected[kind]
            ended = "the same weights" if same else "OTHER WEIGHTS"
            print(f"{number + 1:3d} {kind} killed {name}: {ended}", flush=True)
            if not same:
                return 1
    return 0


def prepare() -> tuple[Any, ProfileTable]:
    """The tokenizer and the people's embeddings; computed once, then read from the caches."""
    return load_backbone("smollm2-135m").tokenizer, ProfileTable(ProfileEncoder.from_pretrained("minilm"), PEOPLE)


def draw_plan(rng: random.Random) -> tuple[str, Plan]:
    """Where to kill: at a random step, or in a random part of the saving at a random checkpoint."""
    if rng.random() < 0.5:
        step = rng.randrange(STEPS)
        return f"in step {step + 1}", lambda trainer: kill_in(trainer, "training_step", step, half=False)
    part, save = rng.choice(SAVING), rng.randrange(STEPS // SAVE_STEPS)
    half = rng.random() < 0.5
    name = f"{'in' if half else 'behind'} {part} of checkpoint {(save + 1) * SAVE_STEPS}"
    return name, lambda trainer: kill_in(trainer, part, save, half=half)


def kill_in(trainer: Any, method: str, turn: int, *, half: bool) -> None:
    """The trainer dies in or behind the given call of `method`; `half`: the newest file is cut in the middle first."""
    inner, calls = getattr(trainer, method), iter(range(STEPS * 2))

    def deadly(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        if next(calls) == turn:
            if half:
                newest = max(Path(trainer.args.output_dir).rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
                os.truncate(newest, newest.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(trainer, method, deadly)


def in_a_process(work: Callable[[], Any]) -> int:
    """Do something in a forked process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(kind: str, folder: Path, tokenizer: Any, table: ProfileTable, plan: Plan | None = None) -> None:
    """Train, from the newest whole checkpoint if there is one, and write the weights."""
    cls, config = {"sft": (CumaSFTTrainer, SFTConfig), "dpo": (CumaDPOTrainer, DPOConfig)}[kind]
    rows = [{"prompt": r["prompt"], "completion": r["chosen"], "profile": r["profile"]} for r in PAIRS]
    trainer = cls(
        mixture(tokenizer),
        config(output_dir=str(folder), **OPTIONS),
        train_dataset=Dataset.from_list(PAIRS if kind == "dpo" else rows),
        processing_class=tokenizer,
        profile_table=table,
    )
    trainer.remove_callback(PrinterCallback)
    if plan is not None:
        plan(trainer)
    trainer.train(resume_from_checkpoint=checkpoints.newest_whole(folder) is not None)
    tuned = {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}
    save_file(tuned, folder / "final.safetensors")


def weights(folder: Path) -> bytes:
    """The final weights, as bytes."""
    return (folder / "final.safetensors").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
