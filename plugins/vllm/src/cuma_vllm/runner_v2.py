"""vLLM's V2 model runner, its default where there is Triton.

It asks the model for a `ModelState` and tells it of every request and every batch. vLLM marks that experimental
(tests/test_seams.py)."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from cuma_vllm.layers import TABLE
from cuma_vllm.person import vector_of


class PeopleState(DefaultModelState):
    """Seats people in the slots of their requests, and says whose each token is."""

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        """A request gets a slot, or gets it back after a preemption."""
        super().add_request(req_index, new_req_data)
        people = getattr(self.model, TABLE)
        people.seat(req_index, vector_of(new_req_data.sampling_params.extra_args, people.profile_dim))

    def prepare_inputs(self, input_batch: Any, req_states: Any) -> dict[str, Any]:
        """Before each forward: the slot of each token."""
        starts = input_batch.query_start_loc[: input_batch.num_reqs + 1]
        # With output_size: else the count would be waited for.
        slots = torch.repeat_interleave(
            input_batch.idx_mapping[: input_batch.num_reqs],
            starts[1:] - starts[:-1],
            output_size=input_batch.num_tokens,
        )
        getattr(self.model, TABLE).place(slots)
        return super().prepare_inputs(input_batch, req_states)


def model_state_class(reads_profile: bool) -> type[DefaultModelState]:
    """The class for an adapter that reads profiles, or does not."""
    return PeopleState if reads_profile else DefaultModelState
