"""A table of a million people: where its embeddings lie, and how fast a batch reads them.

    python -m bench.million --people 1000000          # 1.5 GB of disk in the cache's folder while it runs

The embeddings are random, as wide as MiniLM's; encoding that many for real is only extrapolated, from 256 of them.
"Own memory" is what the process cannot give back: pages of the table's file can be dropped whenever memory is short.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import Profile
from cuma.runs.machine import hardware

BATCH, BATCHES = 64, 200


class Stand:
    """In the encoder's place: random unit vectors."""

    dim = 384

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, profiles: Sequence[Any]) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(len(profiles), self.dim, generator=self.generator), dim=-1)


def main() -> None:
    """Build the table, read batches of random people, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000)
    count = parser.parse_args().people
    print(hardware())
    real = ProfileEncoder.from_pretrained("minilm", cache_dir=False)
    sample = [person(row) for row in range(256)]
    rate = len(sample) / seconds(real, sample)
    print(f"MiniLM encodes {rate:.0f} profiles/s, so {count:,} take {count / rate / 3600:.1f} h, once")
    people = [person(row) for row in range(count)]
    for profile in people:
        _ = profile.sentence, hash(profile)
    before = own_memory()
    print(f"{count:,} profiles, which the table keeps in memory: {before:.2f} GiB own memory")
    start = time.perf_counter()
    table = ProfileTable(cast(ProfileEncoder, Stand()), people)
    size = 4 * table.embeds.numel() / 2**30
    took = time.perf_counter() - start
    print(f"table built in {took:.0f} s: {size:.2f} GiB of embeddings, own memory {own_memory() - before:+.2f} GiB")
    start = time.perf_counter()
    control = table.shuffled(seed=0)
    print(f"its shuffled control in {time.perf_counter() - start:.0f} s: own memory {own_memory() - before:+.2f} GiB")
    draw = np.random.default_rng(0)
    asked = [[people[row] for row in draw.integers(0, count, BATCH)] for _ in range(BATCHES)]
    for name, one in {"table": table, "control": control}.items():
        took = np.median([seconds(one, batch) for batch in asked])
        grown = own_memory() - before
        print(f"{name}: a batch of {BATCH} random people in {1e3 * took:.2f} ms; own memory {grown:+.2f} GiB")


def person(row: int) -> Profile:
    """Someone nobody else is."""
    return Profile(age=18 + row % 70, sex=("female", "male")[row % 2], region=f"district {row}")


def own_memory() -> float:
    """GiB of this process that no file backs (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) / 2**20


def seconds(look: Callable[[list[Profile]], Tensor], people: list[Profile]) -> float:
    """How long one call takes by the wall clock."""
    start = time.perf_counter()
    look(people)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
