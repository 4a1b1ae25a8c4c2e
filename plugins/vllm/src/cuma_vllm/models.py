"""vLLM's models with a mixture: `CumaXForCausalLM` for every X of the table, made from vLLM's own class on demand.

`vllm.ModelRegistry` imports them from here by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from vllm.config import VllmConfig

from cuma_vllm.adapter import Adapter
from cuma_vllm.architectures import ARCHITECTURES, PREFIX
from cuma_vllm.errors import EngineOptionError
from cuma_vllm.layers import TABLE, put_on
from cuma_vllm.options import ADAPTER, DIGEST, MixtureOptions


class WithMixture:
    """Goes before vLLM's class of a model: the mixture is put on once the base's weights are there."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self.cuma_config = vllm_config

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> Any:
        """Load the base's weights, and put the adapter on. Raises as `put_on`."""
        loaded = super().load_weights(weights)  # type: ignore[misc]
        options, schedule = self.cuma_config.additional_config, self.cuma_config.scheduler_config
        adapter = Adapter.read(options[ADAPTER])
        if adapter.digest != options.get(DIGEST):
            raise EngineOptionError(f"{options[ADAPTER]} changed while the server started. Start it again.")
        if hasattr(self, TABLE):
            raise EngineOptionError("weights cannot be loaded anew under a mixture. Start the server again.")
        people = put_on(self, adapter, schedule.max_num_seqs, schedule.max_num_batched_tokens)
        self.add_module(TABLE, people)  # type: ignore[attr-defined]
        if people is not None:
            from cuma_vllm import runner_v1

            runner_v1.install()
        return loaded

    def get_model_state_cls(self) -> Any:
        """What vLLM's V2 runner tells about requests; asked for by that runner alone."""
        from cuma_vllm.runner_v2 import model_state_class

        return model_state_class(getattr(self, TABLE) is not None)


def __getattr__(name: str) -> type:
    """`CumaXForCausalLM`."""
    target = ARCHITECTURES.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if target is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, kind = target.partition(":")
    base = getattr(importlib.import_module(module), kind)
    made = type(name, (WithMixture, base), {"__module__": __name__, "__doc__": f"{kind} with a mixture."})
    globals()[name] = made
    return made


__all__ = ["MixtureOptions", "WithMixture"]
