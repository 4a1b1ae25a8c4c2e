"""The rule about small groups."""

MIN_PEOPLE = 11
"""The fewest people whose answers are shown together. A smaller group could be recognised; nor can it be called the
worst served, for its EMD is mostly noise."""
