"""A run that is killed goes on, from a whole checkpoint, and ends where it would have ended; nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from cuma.errors import CheckpointError, RunError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.checkpoints import newest_whole
from cuma.training.trainers import CumaSFTTrainer
from helpers import ROOT, TESTS
from helpers.preferences import COMMON, PAIRS, mixture
from helpers.tiny import fresh_python


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_backbone("smollm2-135m").tokenizer


def test_three_kills_change_nothing(tokenizer: Any) -> None:
    """The fixture has made the tokenizer's files: soak.py would spend a minute on that."""
    soak = ROOT / "tests" / "helpers" / "soak.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(soak), "--kills", "3"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("the same weights") == 3


def trainer(folder: Path, tokenizer: Any) -> Any:
    options = COMMON | {"max_steps": 4, "save_steps": 2, "save_strategy": "steps"}
    rows = [{"prompt": r["prompt"], "completion": r["chosen"], "profile": r["profile"]} for r in PAIRS]
    return CumaSFTTrainer(
        mixture(tokenizer),
        SFTConfig(output_dir=str(folder), **options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        profile_encoder=ProfileEncoder.from_pretrained("minilm"),
    )


def test_checkpoints_are_sealed_and_a_broken_one_is_named_or_refused(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        trainer(tmp_path, tokenizer).train(resume_from_checkpoint=True)
    trainer(tmp_path, tokenizer).train()
    newest = tmp_path / "checkpoint-4"
    assert newest_whole(tmp_path) == newest
    (newest / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.pt is missing"):
        trainer(tmp_path, tokenizer).train(resume_from_checkpoint=str(newest))
    resumed = trainer(tmp_path, tokenizer)
    resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-4 is damaged: optimizer.pt" in caplog.text
    assert resumed.state.global_step == 4
    assert newest_whole(tmp_path) == newest


def test_checkpoints_without_sums_are_set_aside_and_never_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def written(*steps: int) -> None:
        for step in steps:
            (tmp_path / f"checkpoint-{step}").mkdir()
            (tmp_path / f"checkpoint-{step}" / "weights").write_text(f"of {step}")

    written(5, 10)
    assert newest_whole(tmp_path) is None
    (tmp_path / "broken-checkpoint-10" / "weights").write_text("the first")
    written(10)
    assert newest_whole(tmp_path) is None
    kept = {path.parent.name: path.read_text() for path in tmp_path.glob("*/weights")}
    assert kept == {
        "broken-checkpoint-5": "of 5",
        "broken-checkpoint-10": "the first",
        "broken-checkpoint-10-2": "of 10",
    }
    assert not list(tmp_path.glob("checkpoint-*"))  # what transformers' rotation counts
    assert "checkpoint-10 is half written: it has no sha256.json; it is kept as broken-checkpoint-10-2" in caplog.text


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_kills import trainer
from cuma.models.backbones import load_backbone
from cuma.errors import RunError
made = trainer(Path(sys.argv[1]), load_backbone("smollm2-135m").tokenizer)
allowed = iter([resource.RLIM_INFINITY, 20_000])
save = made._save_checkpoint
def limited(*args, **kwargs):
    resource.setrlimit(resource.RLIMIT_FSIZE, (next(allowed), resource.RLIM_INFINITY))
    save(*args, **kwargs)
made._save_checkpoint = limited
try:
    made.train()
except RunError as error:
    print(error)
"""


def test_a_full_disk_is_told_and_older_checkpoints_stay_whole(tmp_path: Path) -> None:
    """No file may grow beyond 20 kB from the second checkpoint on: the system's own way to fail a write."""
    pytest.importorskip("resource", reason="a limit of the operating system that Windows has not got")
    said = fresh_python(FULL_DISK, str(tmp_path), str(Path(__file__).parent), TESTS)
    assert "Cannot write the checkpoint" in said
    assert "the same command then continues" in said
    newest = newest_whole(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-2"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, tokenizer: Any) -> None:
    made = trainer(tmp_path, tokenizer)
    (tmp_path / "checkpoint-2").write_text("not a folder")
    with pytest.raises(RunError, match=r"Cannot write the checkpoint .*checkpoint-2"):
        made.train()
