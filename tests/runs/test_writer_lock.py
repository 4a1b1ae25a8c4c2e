"""One run, one writer; the lock ends with its process, however that ends."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cuma.errors import RunError
from cuma.runs.folder import Run
from cuma.runs.writer_lock import HOLDER, writing

HOLDS = """
import sys, time
from pathlib import Path
from cuma.runs.writer_lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that writes the run `run`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_named_and_readers_may_read(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    Run.create(tmp_path / "run", "seed: 1\n")
    where = f"process {other.pid} on {platform.node()} since 20"
    with pytest.raises(RunError, match=f"in use by {where}"), writing(tmp_path / "run"):
        pass
    assert Run.open(tmp_path / "run").info["status"] == "created"
    with writing(tmp_path / "another"):
        pass


def test_a_killed_process_leaves_the_run_free(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert json.loads((tmp_path / "run" / HOLDER).read_text())["process"] == other.pid  # what it left is no lock
    with writing(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / HOLDER).read_text())["process"] == os.getpid()
    assert not (tmp_path / "run" / HOLDER).exists()


def test_it_may_be_nested_but_not_in_another_thread(tmp_path: Path) -> None:
    refused: list[BaseException] = []

    def write() -> None:
        try:
            with writing(tmp_path / "run"):
                pass
        except RunError as error:
            refused.append(error)

    with writing(tmp_path / "run"):
        with writing(tmp_path / "run"):
            pass
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in str(refused[0])
    write()
    assert len(refused) == 1


def test_an_error_inside_frees_the_run_and_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path / "run"):
        raise KeyError
    with writing(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"), writing(tmp_path / "file" / "run"):
        pass
