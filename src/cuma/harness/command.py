"""`cuma lm-eval …`: the harness's own command line, which then knows the model type "cuma" and our tasks.

Releases after 0.4.13 find the model type by the entry point in pyproject.toml, and need no such help.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cuma.errors import UnsupportedError

TASKS = Path(__file__).with_name("tasks")
MODEL = "cuma"
TARGET = "cuma.harness.cuma_lm:CumaLM"


def register() -> None:
    """Make the harness know the model type. UnsupportedError if it is not installed."""
    try:
        import lm_eval.models  # noqa: F401  (its own model types first)
        from lm_eval.api.registry import model_registry
    except ImportError as error:
        raise UnsupportedError("lm-evaluation-harness is not installed: pip install 'cuma[lm-eval]'.") from error
    if MODEL not in model_registry:
        model_registry.register(MODEL, target=TARGET)


def run_harness(arguments: Sequence[str]) -> None:
    """Run the harness's command line with our model type and, unless another folder is named, our tasks."""
    register()
    from lm_eval.__main__ import cli_evaluate

    words = list(arguments)
    helping = not words or bool({"-h", "--help"} & set(words))
    if not helping and not any(word.startswith("--include_path") for word in words):
        words += ["--include_path", str(TASKS)]
    before, sys.argv = sys.argv, ["lm-eval", *words]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
