"""How long a full-size WorldValuesBench takes: 93,278 made-up people, every value question, on this machine.

    python studies/wvb_scale.py METADATA_DIR

METADATA_DIR holds WorldValuesBench's question_metadata.json, codebook.json and answer_adjustment.json. The answers are
drawn at random into a temporary folder of some 200 MB. Prints seconds and the greatest resident memory as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from cuma.data.builders.base import Options
from cuma.data.builders.built_folder import write
from cuma.data.builders.wvb import build

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.make_wvb import write_full_size

PEOPLE = 93_278


def main(metadata: Path) -> None:
    """Make the file, build it, write it, and say what that took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("question_metadata.json", "codebook.json", "answer_adjustment.json", "samples.tsv"):
            if (metadata / file).exists():
                shutil.copyfile(metadata / file, folder / file)
        questions, codebook = (
            json.loads((folder / file).read_text(encoding="utf-8-sig"))
            for file in ("question_metadata.json", "codebook.json")
        )
        path = write_full_size(folder, PEOPLE, questions, codebook)
        before = _peak()
        start, busy = time.perf_counter(), time.process_time()
        built = build(folder, Options())
        read, busy = time.perf_counter() - start, time.process_time() - busy
        card = write(built, folder / "built", Options())
        result = {
            "file_mb": round(path.stat().st_size / 1e6),
            "people": card["rows_kept"],
            "answers": sum(split["answers"] for split in card["splits"].values()),
            "build_seconds": round(read, 1),
            "build_processor_seconds": round(busy, 1),
            "write_seconds": round(time.perf_counter() - start - read, 1),
            "peak_gib_before": before,
            "peak_gib": _peak(),
        }
        print(json.dumps(result, indent=2))


def _peak() -> float:
    """GiB; `ru_maxrss` counts KiB on Linux and bytes on macOS."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metadata", type=Path, metavar="METADATA_DIR")
    arguments = parser.parse_args()
    main(arguments.metadata)
