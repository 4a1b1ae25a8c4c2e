"""Which base models can carry a mixture here: vLLM's classes by name, and what vLLM calls the same with a mixture."""

from __future__ import annotations

import json
from pathlib import Path

from cuma_vllm.errors import EngineOptionError

ARCHITECTURES = {
    "LlamaForCausalLM": "vllm.model_executor.models.llama:LlamaForCausalLM",
    "MistralForCausalLM": "vllm.model_executor.models.mistral:MistralForCausalLM",
    "Qwen2ForCausalLM": "vllm.model_executor.models.qwen2:Qwen2ForCausalLM",
    "Qwen3ForCausalLM": "vllm.model_executor.models.qwen3:Qwen3ForCausalLM",
    "GemmaForCausalLM": "vllm.model_executor.models.gemma:GemmaForCausalLM",
    "Gemma2ForCausalLM": "vllm.model_executor.models.gemma2:Gemma2ForCausalLM",
    "Gemma3ForCausalLM": "vllm.model_executor.models.gemma3:Gemma3ForCausalLM",
    "Phi3ForCausalLM": "vllm.model_executor.models.phi3:Phi3ForCausalLM",
    "GraniteForCausalLM": "vllm.model_executor.models.granite:GraniteForCausalLM",
    "OlmoForCausalLM": "vllm.model_executor.models.transformers:TransformersForCausalLM",
    "Olmo2ForCausalLM": "vllm.model_executor.models.transformers:TransformersForCausalLM",
}
"""transformers' name of an architecture → vLLM's class. vLLM runs OLMo with transformers' own code."""
PREFIX = "Cuma"


def with_mixture(architecture: str) -> str:
    """The name under which vLLM knows the architecture with a mixture. Raises EngineOptionError for an unknown one."""
    if architecture not in ARCHITECTURES:
        raise EngineOptionError(
            f"{architecture} is not among the base models that carry a mixture in vLLM: {', '.join(ARCHITECTURES)}. "
            "Serve it with `cuma serve`, or add its line to cuma_vllm.architectures and run `make vllm-test`."
        )
    return PREFIX + architecture


def architecture_of(base: str | Path) -> str:
    """The architecture that a base model's folder names. Raises EngineOptionError if it names none, or several."""
    try:
        named = json.loads((Path(base) / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError) as error:
        raise EngineOptionError(f"{base} has no readable config.json: it is no model's folder.") from error
    if len(named) != 1:
        raise EngineOptionError(f"{base}/config.json names {len(named)} architectures, expected one.")
    return str(named[0])
