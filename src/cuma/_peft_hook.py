"""Make PEFT know the method whenever PEFT is there, without importing PEFT ourselves.

PEFT has no plug-in point, and importing it costs seconds, which `cuma --help` must not pay. So: if PEFT is imported
already, register now; if not, register at the moment somebody imports it. The second half is an import hook that
finds `peft` in the ordinary way and only adds one call after the module has run.
"""

from __future__ import annotations

import logging
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _register() -> None:
    from cuma.tuner.register import register

    register()


class _RegisteringLoader(Loader):
    """Runs PEFT's own loader, then registers. Everything else is the original loader's."""

    def __init__(self, original: Loader) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.original.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module is an ordinary one: reloads and resource look-ups see PEFT's own loader.
        module.__loader__ = self.original
        if module.__spec__ is not None:
            module.__spec__.loader = self.original
        self.original.exec_module(module)
        _register()


class _PeftFinder(MetaPathFinder):
    """Answers for the name `peft` only, with what the other finders (an editable install has its own) say."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "peft":
            return None
        others = [finder for finder in sys.meta_path if not isinstance(finder, _PeftFinder)]
        for finder in others:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _RegisteringLoader(spec.loader)
                return spec
        return None


def _concerns_people(record: logging.LogRecord) -> bool:
    """bitsandbytes, which PEFT imports, warns on some CPUs of a faster 4-bit kernel that is not installed: at every
    start, whoever holds weights in 4 bits or not."""
    return "gemm_4bit_forward" not in str(record.msg)


def install() -> None:
    """Register now if PEFT is loaded, else as soon as it is. Idempotent."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_concerns_people)
    # PEFT and TRL ask transformers by a name that it will drop: theirs to mend.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    if "peft" in sys.modules:
        _register()
    elif not any(isinstance(finder, _PeftFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PeftFinder())
