"""The process that knows profiles: `cuma.serving.companion`, in cuma's own environment, asked over pipes.

Lines of JSON each way. What is asked stays in both processes' memory. A companion that died is started again by the
next question.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from cuma_vllm.errors import CompanionError, PersonError

_RUNNING: dict[tuple[str, ...], Companion] = {}


def command_of(python: str, run: str, encoder: str | None = None) -> list[str]:
    """How a companion is started. python: of cuma's environment; run: a run's or an adapter's folder."""
    return [python, "-W", "ignore", "-m", "cuma.serving.companion", run, *([encoder] if encoder else [])]


class Companion:
    """Asked by one thread at a time; every question waits for its answer."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it. Raises CompanionError if it does not start, with what it said."""
        self._command = list(command)
        self._lock = threading.Lock()
        self._asked = 0
        self._process, self.hello = self._started()

    @classmethod
    def of(cls, command: Sequence[str]) -> Companion:
        """The one that this process has started by this command, or a new one."""
        key = tuple(command)
        if key not in _RUNNING:
            _RUNNING[key] = cls(command)
        return _RUNNING[key]

    def ask(self, op: str, **content: Any) -> dict[str, Any]:
        """An answer.

        Raises:
            PersonError: the request is wrong; the text says why and repeats no value. CompanionError: no answer.
        """
        with self._lock:
            self._asked += 1
            answer = self._answer({"id": self._asked, "op": op, **content})
            expected = answer.get("id") == self._asked
        if "refused" in answer:
            raise PersonError(answer["refused"])
        if not expected or "failed" in answer:
            raise CompanionError(f"cuma's companion failed ({answer.get('failed', 'no answer')}).")
        return answer

    def close(self) -> None:
        """End the process."""
        _RUNNING.pop(tuple(self._command), None)
        self._end()

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process.poll() is not None:
            self._process, self.hello = self._started()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            self._end()
            raise CompanionError("cuma's companion ended while it was asked. It is started again by the next request.")
        return dict(json.loads(line))

    def _started(self) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        except OSError as error:
            raise CompanionError(
                f"cuma's companion cannot be started ({type(error).__name__}): --cuma-python must name the Python of "
                "the environment that cuma is installed in."
            ) from error
        assert process.stdout is not None
        line = process.stdout.readline()
        hello = json.loads(line) if line.startswith("{") else {}
        if "name" not in hello:
            process.kill()
            process.wait()
            raise CompanionError(
                hello.get("error")
                or "cuma's companion did not start. Is cuma installed in --cuma-python's environment?"
            )
        return process, hello

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except OSError:  # what was not written yet has nobody to read it
                    continue
        self._process.kill()
        self._process.wait()
