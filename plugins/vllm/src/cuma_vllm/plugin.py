"""vLLM's entry point: called in every process that vLLM starts, before it does anything."""

from __future__ import annotations

from cuma_vllm.architectures import ARCHITECTURES, with_mixture

MINOR = "0.32"
"""The one minor version of vLLM whose seams this package knows."""


def register() -> None:
    """Let vLLM know the models with a mixture, their options, and where people are to be thought of. Idempotent.

    Raises:
        EngineOptionError: another version of vLLM is installed.
    """
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.version import __version__

    from cuma_vllm import seams
    from cuma_vllm.errors import EngineOptionError
    from cuma_vllm.options import MixtureOptions

    if __version__.split("+")[0].rsplit(".", 1)[0] != MINOR:
        raise EngineOptionError(
            f"cuma-vllm knows vLLM {MINOR}, and {__version__} is installed. Install vllm=={MINOR}.*, or a version of "
            "cuma-vllm that knows yours."
        )
    for architecture in ARCHITECTURES:
        name = with_mixture(architecture)
        if name not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(name, f"cuma_vllm.models:{name}")
        MODELS_CONFIG_MAP[name] = MixtureOptions
    seams.install()
