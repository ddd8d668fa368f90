"""`python -m proof.torture`: see the package's text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proof.torture.run import Settings, main


def parse() -> Settings:
    parser = argparse.ArgumentParser(
        prog="python -m proof.torture", description="Tortures coordinators, then checks the books."
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to do harm")
    parser.add_argument("--seed", type=int, default=1, help="what harm, and to whom")
    parser.add_argument("--rate", type=float, default=40.0, help="sagas started per second, at most")
    parser.add_argument("--every", type=float, default=0.7, help="seconds between two faults, on average")
    parser.add_argument("--lease-seconds", type=float, default=3.0, help="of each coordinator")
    parser.add_argument(
        "--settle-seconds", type=float, default=60.0, help="until when all must have settled afterwards"
    )
    parser.add_argument(
        "--dir", type=Path, default=Path(".cache/torture"), help="where to write while it runs"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder also when nothing was wrong")
    given = parser.parse_args()
    return Settings(
        seconds=given.seconds,
        seed=given.seed,
        per_second=given.rate,
        every_seconds=given.every,
        lease_seconds=given.lease_seconds,
        settle_seconds=given.settle_seconds,
        must_keep=given.keep,
        parent=given.dir,
    )


if __name__ == "__main__":
    sys.exit(main(parse()))
