"""What twenty rounds about one large picture write in a session that is kept. Prints one JSON object.

    python benchmarks/sessions.py [--rounds 20] [--side 2000]

The picture is noise, 12 MB as PNG at 2000 pixels a side; each round answers with one box. No model runs.
Bytes are those handed to write(2), journals included, as Linux counts them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from benchmarks.report import surroundings
from superlink.agents.pictures import SourcePicture, read_picture
from superlink.agents.session_store import Round, SessionStore
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Origin
from superlink.router.messages import Message


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--side", type=int, default=2000, help="of the large picture, in pixels")
    given = parser.parse_args(arguments)
    large, small = measured(given.side, given.rounds), measured(20, given.rounds)
    print(json.dumps({"large": large, "small": small, **surroundings()}))


def measured(side: int, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    picture = read_picture(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        store = SessionStore(Path(folder) / "talks.db")
        bytes_, seconds = [], []
        for number in range(1, rounds + 1):
            before, start = _written(), time.perf_counter()
            store.append("talk", number, [_round(number, picture)])
            seconds.append(time.perf_counter() - start)
            bytes_.append(_written() - before)
        return {
            "bytes_of_round_1": bytes_[0],
            "bytes_of_later_rounds": sum(bytes_[1:]),
            "most_bytes_of_a_later_round": max(bytes_[1:]),
            "bytes_of_the_file": store.path.stat().st_size,
            "milliseconds_of_round_1": round(seconds[0] * 1000, 1),
            "milliseconds_of_a_later_round": round(statistics.median(seconds[1:]) * 1000, 1),
        }


def _round(number: int, picture: SourcePicture) -> Round:
    boxes = Boxes(
        xyxy=np.asarray([[1.5, 2, 9, 8.25]], np.float32),
        scores=np.asarray([0.9], np.float32),
        labels=np.zeros(1, np.int64),
        names=("star",),
        size=(20, 20),
        origin=Origin(id=f"boxes-{number}", source=picture.id, round=number),
    )
    turn = Turn(
        text="A star.", raw="A <det>star</det>[DET].", artifacts=(boxes,), image=picture, round=number
    )
    images = (picture.pixels,) if number == 1 else ()
    return Round(asked=(Message(role="user", text="Where is it?", images=images),), turn=turn)


def _written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


if __name__ == "__main__":
    main()
