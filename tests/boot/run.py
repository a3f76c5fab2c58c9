#!/usr/bin/env python3
"""Runs the boot tests: functions test_* in tests/boot/test_*.py. run.py [-j JOBS] [PART OF A NAME]...

A test takes nothing and fails by an exception, best an AssertionError with a reason of one line. It starts machines
through tools/qemu.py, whose logs stay in build/run/NAME/. @limit(seconds) gives it more or less time than usual, @needs
names what is built before the first test. Several run at a time, each in a process of its own (as many as there are CPUs;
-j 1: one after the other); a module that says TOGETHER = True is run by one process, for what its tests share.
What was found goes to build/run/boot.json as well, with the seconds that each test and its machines took.

A test that reaches a time limit is run once more, which is printed and stands in boot.json ("late"): the host may have been
busy. Its first log is kept as console.late.log. A guest that stands still also looks like that: look into it.
"""
from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "tools")]

import qemu  # noqa: E402
from boot import DEFAULT_LIMIT  # noqa: E402


@dataclass(frozen=True)
class Test:
    name: str  # MODULE.FUNCTION, without "test_"
    function: Callable[[], None]
    together: bool  # with the others of its module

    @property
    def module(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Outcome:
    name: str
    reason: str | None  # why it failed
    seconds: float
    cpu: float  # seconds that it and its machines kept CPUs busy
    was_late: bool = False  # it reached its time limit, and this is the second run


def find(parts: list[str]) -> list[Test]:
    """All tests, or those with one of the parts in their names."""
    tests = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        tests += [Test(f"{path.stem.removeprefix('test_')}.{name.removeprefix('test_')}", function,
                       getattr(module, "TOGETHER", False))
                  for name, function in vars(module).items()
                  if name.startswith("test_") and callable(function) and function.__module__ == module.__name__]
    return [test for test in tests if not parts or any(part in test.name for part in parts)]


def build(tests: list[Test]) -> bool:
    """What the tests need besides the image and the guests: building counts for no test's time."""
    targets = sorted({target for test in tests for target in getattr(test.function, "needs", ())})
    if not targets:
        return True
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", "-s", "--no-print-directory", f"-j{os.cpu_count()}", *targets], cwd=REPOSITORY,
                          env=environment, check=False).returncode == 0


def expire(*_) -> None:
    raise TimeoutError("the test's time limit was reached")


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run(test: Test) -> Outcome:
    start, busy = time.monotonic(), cpu_seconds()
    signal.alarm(getattr(test.function, "limit", DEFAULT_LIMIT))
    try:
        test.function()
        reason = None
    except (Exception, SystemExit) as error:  # pylint: disable=broad-except # whatever it is, the test failed
        reason = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
        if not isinstance(error, (AssertionError, TimeoutError)):
            reason = f"{type(error).__name__}: {reason} ({traceback.extract_tb(error.__traceback__)[-1]})"
    finally:
        signal.alarm(0)
    return Outcome(test.name, reason, time.monotonic() - start, cpu_seconds() - busy)


def late(outcome: Outcome) -> bool:
    return outcome.reason is not None and "time limit" in outcome.reason


def run_again(test: Test, first: Outcome) -> Outcome:
    log = re.search(r"\(log: (\S+)\)", first.reason or "")
    if log and Path(log[1]).exists():
        Path(log[1]).rename(Path(log[1]).with_suffix(".late.log"))
    print(f"boot {test.name}: {first.reason}; once more", flush=True)
    second = run(test)
    return Outcome(test.name, second.reason, first.seconds + second.seconds, first.cpu + second.cpu, was_late=True)


def run_all(tests: list[Test], answers: Connection) -> None:
    """In a process of its own."""
    qemu.ECHO = False
    signal.signal(signal.SIGALRM, expire)
    for test in tests:
        outcome = run(test)
        answers.send(run_again(test, outcome) if late(outcome) else outcome)
    answers.close()


def groups(tests: list[Test]) -> list[list[Test]]:
    """What one process runs: a test, or the tests of a module that belong together."""
    found: dict[str, list[Test]] = {}
    for test in tests:
        found.setdefault(test.module if test.together else test.name, []).append(test)
    return list(found.values())


def show(outcome: Outcome) -> None:
    took = f"{outcome.seconds:.0f} s, {outcome.cpu:.0f} s of CPU"
    print(f"boot {outcome.name} ... " + (f"ok ({took})" if outcome.reason is None else f"FAIL ({took}): {outcome.reason}"),
          flush=True)


def run_parallel(tests: list[Test], jobs: int) -> list[Outcome]:
    context = multiprocessing.get_context("fork")
    waiting, outcomes = groups(tests), []
    running: dict[Connection, tuple[multiprocessing.Process, list[str]]] = {}  # with the names that have no outcome yet
    while waiting or running:
        while waiting and len(running) < jobs:
            group = waiting.pop(0)
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=run_all, args=(group, theirs))
            process.start()
            theirs.close()
            running[mine] = process, [test.name for test in group]
        for answers in wait(list(running)):
            process, names = running[answers]
            try:
                outcome = answers.recv()
                names.remove(outcome.name)
                found = [outcome]
            except EOFError:
                process.join()
                del running[answers]
                found = [Outcome(name, f"its process ended with status {process.exitcode}", 0, 0) for name in names]
            for outcome in found:
                show(outcome)
            outcomes += found
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("parts", nargs="*")
    arguments = parser.parse_args()
    tests = find(arguments.parts)
    if not build(tests):
        print("boot: what the tests need could not be built")
        return 1
    start = time.monotonic()
    outcomes = run_parallel(tests, max(arguments.jobs, 1))
    passed = [outcome.name for outcome in outcomes if outcome.reason is None]
    failed = [outcome.name for outcome in outcomes if outcome.reason is not None]
    qemu.RUN.mkdir(parents=True, exist_ok=True)
    (qemu.RUN / "boot.json").write_text(json.dumps({
        "passed": passed, "failed": failed, "late": [outcome.name for outcome in outcomes if outcome.was_late],
        "seconds": {outcome.name: [round(outcome.seconds, 1), round(outcome.cpu, 1)] for outcome in outcomes}}, indent=1))
    print(f"boot: {len(passed)} passed, {len(failed)} failed in {time.monotonic() - start:.0f} s")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
