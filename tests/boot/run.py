#!/usr/bin/env python3
"""Runs the boot tests: functions test_* in tests/boot/test_*.py, one after the other. run.py [PART OF A NAME]...

A test takes nothing and fails by an exception, best an AssertionError with a reason of one line. It starts machines
through tools/qemu.py, whose logs stay in build/run/NAME/. @limit(seconds) gives it more or less time than usual.
What was found goes to build/run/boot.json as well.
"""
from __future__ import annotations

import importlib
import json
import signal
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "tools")]

import qemu  # noqa: E402
from boot import DEFAULT_LIMIT  # noqa: E402


def expire(*_) -> None:
    raise TimeoutError("the test's time limit was reached")


def main() -> int:
    qemu.ECHO = False
    signal.signal(signal.SIGALRM, expire)
    tests = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        tests += [(f"{path.stem.removeprefix('test_')}.{name.removeprefix('test_')}", function)
                  for name, function in vars(module).items()
                  if name.startswith("test_") and callable(function) and function.__module__ == module.__name__]
    if sys.argv[1:]:
        tests = [(name, function) for name, function in tests if any(part in name for part in sys.argv[1:])]
    passed, failed = [], []
    for name, function in tests:
        print(f"boot {name} ...", end=" ", flush=True)
        start = time.monotonic()
        signal.alarm(getattr(function, "limit", DEFAULT_LIMIT))
        try:
            function()
            reason = None
        except (Exception, SystemExit) as error:  # pylint: disable=broad-except # whatever it is, the test failed
            reason = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
            if not isinstance(error, (AssertionError, TimeoutError)):
                reason = f"{type(error).__name__}: {reason} ({traceback.extract_tb(error.__traceback__)[-1]})"
        finally:
            signal.alarm(0)
        seconds = time.monotonic() - start
        if reason is None:
            passed.append(name)
            print(f"ok ({seconds:.0f} s)", flush=True)
        else:
            failed.append(name)
            print(f"FAIL ({seconds:.0f} s): {reason}", flush=True)
    qemu.RUN.mkdir(parents=True, exist_ok=True)
    (qemu.RUN / "boot.json").write_text(json.dumps({"passed": passed, "failed": failed}))
    print(f"boot: {len(passed)} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
