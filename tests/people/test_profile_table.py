"""The table gives each profile its own embedding; the control gives each another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cuma.models.hub import cache_folder
from cuma.people import profile_table
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import Profile

PROFILES = [{"age": 30, "country": "Japan"}, {"age": 61, "country": "Peru"}, {"sex": "female"}, {}]


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm", cache_dir=False)


@pytest.fixture(scope="module")
def table(encoder: ProfileEncoder) -> ProfileTable:
    return ProfileTable(encoder, [*PROFILES, *PROFILES])


def test_rows_are_the_encoders_own(table: ProfileTable, encoder: ProfileEncoder) -> None:
    assert len(table.profiles) == 4
    looked_up = table([PROFILES[1], None, PROFILES[1]])
    alone = encoder([Profile.parse(PROFILES[1]).sentence])
    torch.testing.assert_close(looked_up[:1], alone, atol=1e-6, rtol=0)
    assert torch.equal(looked_up[0], looked_up[2])
    assert not looked_up[1].any()


def test_an_unknown_profile_is_refused_without_its_text(table: ProfileTable) -> None:
    with pytest.raises(KeyError, match="1 of 2") as caught:
        table([PROFILES[0], {"country": "Atlantis"}])
    assert "Atlantis" not in str(caught.value)


def test_shuffling_is_fixed_and_moves_everybody_but_the_empty(table: ProfileTable) -> None:
    shuffled = table.shuffled(seed=3)
    assert torch.equal(shuffled.embeds, table.shuffled(seed=3).embeds)
    for profile in PROFILES[:3]:
        assert not torch.equal(shuffled([profile]), table([profile]))
    assert torch.equal(shuffled([{}]), table([{}]))
    assert sorted(map(float, shuffled.embeds.sum(-1))) == sorted(map(float, table.embeds.sum(-1)))


def test_a_table_that_covers_more_people_keeps_everybody_elses_row(table: ProfileTable) -> None:
    other = {"country": "Kenya"}
    for before in (table, table.shuffled(seed=3)):
        wider = before.covering([*PROFILES, other])
        assert torch.equal(wider(PROFILES), before(PROFILES))
        assert wider([other]).any()


def test_who_is_new_to_the_control_gets_somebody_elses_embedding(encoder: ProfileEncoder) -> None:
    others = [{"country": name} for name in ("Kenya", "Chile", "Japan")]
    true, control = ProfileTable(encoder, PROFILES), ProfileTable(encoder, PROFILES).shuffled(seed=3)
    wider = control.covering(others)
    for other in others:
        found = wider([other])
        assert not torch.equal(found, ProfileTable(encoder, [other])([other]))
        assert any(torch.equal(found[0], row) for row in true.embeds)
    assert torch.equal(wider(others), control.covering([others[1]]).covering(others)(others))  # whoever else is asked


def test_a_large_table_lies_on_disk_and_says_the_same(encoder: ProfileEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [{"age": age, "country": "Peru"} for age in range(20, 70)]
    small = ProfileTable(encoder, people)
    asked: list[int] = []

    class Counting:
        dim = encoder.dim

        def __call__(self, profiles: list[object]) -> torch.Tensor:
            asked.append(len(profiles))
            return encoder(profiles)

    monkeypatch.setattr(profile_table, "IN_MEMORY", 4 * encoder.dim * 49)
    monkeypatch.setattr(profile_table, "AT_ONCE", 20)
    large = ProfileTable(Counting(), [*people, *people])
    assert asked == [20, 20, 10], "each distinct person once, a bounded number at a time"
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line for line in maps if str(cache_folder()) in line and line.endswith("(deleted)")]
    assert mapped, "the embeddings are a file's pages, and the file has no name any more"
    torch.testing.assert_close(large(people[::-3]), small(people[::-3]), rtol=0, atol=2e-6)
    assert torch.equal(large.shuffled(3).embeds.sort(0).values, large.embeds.sort(0).values)
