"""What vLLM has to be started with, and what it must not be started with.

vLLM calls `MixtureOptions.verify_and_update_config` (its table MODELS_CONFIG_MAP) in the first process, before any
engine starts: whatever is wrong is told there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuma_vllm.adapter import Adapter
from cuma_vllm.architectures import architecture_of, with_mixture
from cuma_vllm.errors import EngineOptionError

ADAPTER, DIGEST, PROFILE_DIM = "cuma_adapter", "cuma_digest", "cuma_profile_dim"
"""Keys of vLLM's `additional_config`: the adapter's folder, which users give; its files' digest, which keeps compiled
graphs of another adapter from being used; and how many numbers say who asks (0: none)."""


def engine_options(base: str | Path, adapter: str | Path) -> dict[str, Any]:
    """Keywords for `vllm.LLM(…)`: a base model's folder with a mixture on it.

    Raises:
        EngineOptionError: the base's architecture carries no mixture here.
    """
    return {
        "model": str(base),
        "hf_overrides": {"architectures": [with_mixture(architecture_of(base))]},
        "additional_config": {ADAPTER: str(Path(adapter).resolve())},
    }


class MixtureOptions:
    """How vLLM looks at an engine's options when the model is one of ours."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Nothing to do with the model's options alone."""

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Refuse what would not be exact, and read the adapter.

        Raises:
            EngineOptionError: an option that a mixture does not stand. AdapterFileError: the adapter is not whole.
        """
        refuse_options(vllm_config)
        given = vllm_config.additional_config
        folder = given.get(ADAPTER) if isinstance(given, dict) else None
        if not folder:
            raise EngineOptionError(
                f'The adapter\'s folder is missing: --additional-config \'{{"{ADAPTER}": "FOLDER"}}\', or start with '
                "`cuma-vllm serve RUN`."
            )
        adapter = Adapter.read(folder)
        given[DIGEST] = adapter.digest
        given[PROFILE_DIM] = adapter.config.profile_dim if adapter.config.needs_profile else 0


LOADERS = ("auto", "hf", "safetensors", "fastsafetensors")
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "tensor_parallel_size": (
        lambda c: c.parallel_config.tensor_parallel_size > 1, "experts are not split yet. Start one server a GPU"
    ),
    "pipeline_parallel_size": (
        lambda c: c.parallel_config.pipeline_parallel_size > 1, "a mixture lives on one rank. Start one server a GPU"
    ),
    "data_parallel_size": (
        lambda c: c.parallel_config.data_parallel_size > 1, "not tried. Start a server a replica, behind a router"
    ),
    "context parallel sizes": (
        lambda c: c.parallel_config.decode_context_parallel_size * c.parallel_config.prefill_context_parallel_size > 1,
        "tokens would be on other ranks than their people",
    ),
    "enable_dbo, ubatch_size": (
        lambda c: c.parallel_config.use_ubatching, "half batches would read the first half's people"
    ),
    "enable_lora": (
        lambda c: c.lora_config is not None, "it wraps the layers anew and would drop the mixture without a word"
    ),
    "speculative_config": (
        lambda c: c.speculative_config is not None, "it has not been shown to be exact"
    ),
    "kv_transfer_config": (
        lambda c: c.kv_transfer_config is not None, "keys and values of one person could reach another's request"
    ),
    "kv_sharing_fast_prefill": (
        lambda c: c.cache_config.kv_sharing_fast_prefill, "layers would see other tokens than the table says"
    ),
    "enable_sleep_mode": (
        lambda c: c.model_config.enable_sleep_mode, "the experts would not come back with the weights"
    ),
    "runner": (
        lambda c: c.model_config.runner_type != "generate", "only generation is served"
    ),
    "load_format": (
        lambda c: c.load_config.load_format not in LOADERS, f"the mixture is put on by the formats {', '.join(LOADERS)}"
    ),
}  # fmt: skip
"""Option of vLLM → (whether a `VllmConfig` asks for it, why not)."""


def refuse_options(vllm_config: Any) -> None:
    """Raise an EngineOptionError that names the options under which a mixture is not exact, or not known to be."""
    wrong = [f"{name}: {why}" for name, (asked, why) in REFUSED.items() if asked(vllm_config)]
    if wrong:
        raise EngineOptionError(f"A mixture does not go with these options of vLLM. {'; '.join(wrong)}.")
