"""vLLM's extension point for routes (`vllm.endpoint_plugins`): the front and /v1/opinions, behind its authentication.

vLLM loads it only where VLLM_PLUGINS names it; `cuma-vllm serve` does.
"""

from __future__ import annotations

from typing import Any

from cuma_vllm.companion import Companion
from cuma_vllm.errors import EngineOptionError
from cuma_vllm.front import Front
from cuma_vllm.opinions import opinions
from cuma_vllm.options import ADAPTER

COMPANION = "cuma_companion"
"""Key of vLLM's `additional_config`: the command that starts a companion."""


class CumaEndpoints:
    """What vLLM asks an endpoint plug-in for."""

    name = "cuma_front"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Called before vLLM adds its own middlewares, which so stand in front of ours."""
        app.add_middleware(Front)
        app.add_api_route("/v1/opinions", opinions, methods=["POST"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Start the companion.

        Raises:
            EngineOptionError: the server would log what people say. CompanionError: there is no companion.
        """
        options = engine_client.vllm_config.additional_config
        command = options.get(COMPANION) if isinstance(options, dict) and ADAPTER in options else None
        if args.enable_log_requests:
            raise EngineOptionError("--enable-log-requests writes what people say into the log. Leave it out.")
        state.cuma_companion = Companion.of(command) if command else None
