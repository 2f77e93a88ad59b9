"""Kill what takes deliveries in, again and again, and compare the history with what happened: on both engines.

    python -m benchmarks.exactly_once [--deliveries 10000] [--kills 50] [--seed N]

See `tests.soak.exactly_once`. Prints one line for each engine; exit status 1, with the seed, if something is wrong.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.soak.exactly_once import Wrong, run
from tests.store.support import PASSWORD, Place
from tools.servers import PostgreSQL


def main(arguments: Sequence[str]) -> int:
    """Run it on SQLite, then on PostgreSQL."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactly_once")
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home, PostgreSQL(Path(home), password=PASSWORD) as postgresql:
        for engine, url in (("SQLite", ""), ("PostgreSQL", postgresql.dsn)):
            folder = Path(home, engine)
            folder.mkdir()
            place = Place(url, folder / "data")
            try:
                outcome = run(place, folder, deliveries=asked.deliveries, kills=asked.kills, seed=asked.seed)
            except Wrong as problem:
                print(f"{engine}: {problem}")
                return 1
            print(
                f"{engine}: {outcome.deliveries} deliveries in {outcome.attempts} requests, {outcome.kills} kills: "
                f"{outcome.firings} firings, each once; {outcome.acknowledged} acknowledgements, each kept; "
                f"{outcome.took:.0f} s; seed {asked.seed}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
