"""What several tests stand on: tiny models, made data, servers that talk like real ones."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
SHARED = ROOT.parent / "shared"
"""Real files that are not the project's own to hand on; tests that need them are left out where they are absent."""
TESTS = str(ROOT / "tests")
"""What a fresh process has to find to import these helpers."""
