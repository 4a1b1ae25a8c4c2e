"""vLLM's V1 model runner (CPUs without Triton): before each forward, whose each token is.

The runner asks no model about requests. One method of it is wrapped, `GPUModelRunner._model_forward`, which every
forward of a real batch goes through (tests/test_seams.py). People sit in slots as long as they are in the batch; a
request that was preempted sits down again when it returns.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np
import torch

from cuma_vllm.layers import TABLE
from cuma_vllm.people import People
from cuma_vllm.person import vector_of

WRAPPED = "cuma_wrapped"


class Seats:
    """Which slot each request of the batch has."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._free = list(range(people.rows.shape[0] - 1, -1, -1))
        self._taken: dict[str, tuple[int, Any]] = {}

    def of(self, requests: dict[str, Any]) -> list[int]:
        """The slot of each request that is in the batch now, in its order. requests: id → its SamplingParams."""
        for known in list(self._taken):
            # Also where an id comes again for another request: its parameters are another object.
            if requests.get(known) is not self._taken[known][1]:
                self._free.append(self._taken.pop(known)[0])
        for request, params in requests.items():
            if request not in self._taken:
                vector = vector_of(params.extra_args, self._people.profile_dim)
                slot = self._free.pop()
                self._taken[request] = (slot, params)
                self._people.seat(slot, vector)
        return [self._taken[request][0] for request in requests]


def install() -> None:
    """Wrap the runner's method, once in a process."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    original = GPUModelRunner._model_forward
    if hasattr(original, WRAPPED):
        return

    @wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        people = getattr(self.get_model(), TABLE, None)
        if people is not None:
            _place(self, people)
        return original(self, *args, **kwargs)

    setattr(forward, WRAPPED, True)
    GPUModelRunner._model_forward = forward


def _place(runner: Any, people: People) -> None:
    """Tell the table whose the tokens of the runner's batch are."""
    batch = runner.input_batch
    order = batch.req_ids[: batch.num_reqs]
    if not hasattr(runner, "cuma_seats"):
        runner.cuma_seats = Seats(people)
    seats = runner.cuma_seats.of({request: runner.requests[request].sampling_params for request in order})
    lengths = np.diff(runner.query_start_loc.np[: len(order) + 1])
    people.place(torch.from_numpy(np.repeat(np.array(seats, dtype=np.int64), lengths)))
