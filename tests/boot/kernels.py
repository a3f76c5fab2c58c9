#!/usr/bin/env python3
"""`make test-kernels`: what `make run` does, with each kernel in build/kernels, where `make kernels` puts them."""
from __future__ import annotations

import sys

import run
import qemu
from boot import REPOSITORY, add
from test_linux import run_disks

KERNELS = REPOSITORY / "build/kernels"


def main() -> int:
    qemu.ECHO = False
    tests: dict = {"__name__": "kernels"}
    for image in sorted(KERNELS.glob("*/Image")):
        version = image.parent.name
        add(tests, f"kernels.{version}", 300, run_disks, f"kernels/{version}", kernel=image)
    outcomes = run.run_parallel([run.Test(name.removeprefix("test_"), function, False)
                                 for name, function in tests.items() if callable(function)], 2)
    failed = sum(outcome.reason is not None for outcome in outcomes)
    print(f"kernels: {len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
