#!/usr/bin/env python3
"""`make bench`: what Weir's work costs, in instructions, against the aims. run.py [quick]

quick: one SMMU on bare metal, in seconds. See docs/performance.md.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machines import Failure, Values, Vm, measure  # noqa: E402


def quick(properties: str = "") -> Values:
    return measure("quick", [Vm([1], properties=properties)], smmus=3)


def main() -> int:
    start = time.monotonic()
    if sys.argv[1:2] == ["quick"]:
        values = quick(" ".join(sys.argv[2:]))
        for key, (median, least, most) in values.by_key.items():
            spread = f"  ({least} to {most})" if least != most else ""
            print(f"{key:28} {median:8}{spread}")
        print(f"inv.batch64.per_command      {values['batch.64'] / 64:8.1f}")
        print(f"bench: {time.monotonic() - start:.1f} s")
        return 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"bench: FAIL: {failure}")
        sys.exit(1)
