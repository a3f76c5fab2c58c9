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
    return measure("quick", [Vm([1], properties=properties)], smmus=3, counted=True)


PRICED = {"smmu_read": "SMMU reads", "smmu_write": "SMMU writes", "mmio_read": "other MMIO reads", "mmio_write": "other MMIO writes",
          "dsb": "DSB", "dmb": "DMB", "isb": "ISB", "at": "AT", "tlbi": "TLBI", "atomic": "atomic", "system": "MRS/MSR"}


def print_all(values: Values) -> None:
    """Each measurement, and what the instructions of its last sample's window were."""
    for key, (median, least, most, _) in values.by_key.items():
        spread = f" ({least} to {most})" if least != most else ""
        counted = values.counted(key)
        if key != "baseline" and counted["el2"] != median:
            raise Failure(f"{key}: {median} by the counter, but EL2 executed {counted['el2']} instructions (log: {values.log()})")
        priced = ", ".join(f"{counted[name]} {text}" for name, text in PRICED.items() if counted[name])
        print(f"{key:24} {f'{median}{spread}':26} {priced}")
    print(f"{'inv.batch64.per_command':24} {values['batch.64'] / 64:.1f}")


def main() -> int:
    start = time.monotonic()
    if sys.argv[1:2] == ["quick"]:
        print_all(quick(" ".join(sys.argv[2:])))
        print(f"bench: {time.monotonic() - start:.1f} s")
        return 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"bench: FAIL: {failure}")
        sys.exit(1)
