#!/usr/bin/env python3
"""`make test`: builds everything, runs every check whatever the others say, and ends with "N passed, N failed"."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
passed, failed = 0, []


def run(*command: str) -> bool:
    sys.stdout.flush()
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode == 0


def make(*goals: str) -> bool:
    return run("make", "--no-print-directory", f"-j{os.cpu_count()}", *goals)


def count(what: str, ok: bool) -> bool:
    global passed
    passed += ok
    if not ok:
        failed.append(what)
    print(f"{what}: {'ok' if ok else 'FAIL'}", flush=True)
    return ok


def google_tests(goal: str, program: str, what: str) -> None:
    global passed
    if not count(f"build of the {what} tests", make(goal)):
        return
    report = REPOSITORY / f"build/host/{what}.json"
    report.unlink(missing_ok=True)
    ok = run(program, "--gtest_brief=1", f"--gtest_output=json:{report}")
    if not report.exists():
        count(f"{what} tests (they crashed)", False)
        return
    suites = json.loads(report.read_text())["testsuites"]
    bad = 0
    for suite in suites:
        for test in suite["testsuite"]:
            if test["result"] == "COMPLETED" and "failures" not in test:
                passed += 1
            elif test["result"] == "COMPLETED":
                bad += 1
                failed.append(f"{what} {suite['name']}.{test['name']}")
    if not ok and bad == 0:
        count(f"{what} tests (the program failed)", False)
    print(f"{what} tests: {'ok' if ok else 'FAIL'}", flush=True)


def guest_abi_text() -> None:
    """guest-abi/vsmmu.md says what the definitions say."""
    if not count("build of vsmmu-doc", make("vsmmu-doc")):
        return
    tool = str(REPOSITORY / "build/host/vsmmu-doc")
    said = subprocess.run([tool], capture_output=True, text=True, check=False)
    same = said.returncode == 0 and said.stdout == (REPOSITORY / "guest-abi/vsmmu.md").read_text()
    count("guest-abi/vsmmu.md agrees with the definitions" + ("" if same else " (it does not: `make docs` writes it anew)"), same)


def mutants() -> None:
    global passed
    if not count("build of the tests for mutants", make("build/mutation/unmutated")):
        return
    report = REPOSITORY / "build/mutation/mutants.json"
    report.unlink(missing_ok=True)
    run("python3", "tools/mutants.py")
    if not report.exists():
        count("mutants (not run)", False)
        return
    found = json.loads(report.read_text())
    passed += len(found["caught"])
    failed.extend(f"mutant {name}" for name in found["failed"])


def spin() -> None:
    global passed
    report = REPOSITORY / "build/spin/spin.json"
    report.unlink(missing_ok=True)
    run("python3", "tests/spin/run.py")
    if not report.exists():
        count("protocol models (not run)", False)
        return
    found = json.loads(report.read_text())
    passed += len(found["passed"])
    failed.extend(f"spin {name}" for name in found["failed"])


def boot_tests() -> None:
    global passed
    report = REPOSITORY / "build/run/boot.json"
    report.unlink(missing_ok=True)
    run("python3", "tests/boot/run.py")
    if not report.exists():
        count("boot tests (they crashed)", False)
        return
    found = json.loads(report.read_text())
    passed += len(found["passed"])
    failed.extend(f"boot {name}" for name in found["failed"])


def main() -> int:
    count("format", make("format-check"))
    count("TLB maintenance in one place", run("tools/check-tlbi"))
    google_tests("host", "build/host/unit-tests", "unit")
    google_tests("build/host/race-tests", "build/host/race-tests", "race")
    guest_abi_text()
    spin()
    mutants()
    if list(REPOSITORY.glob("tools/manifest-check.cpp")):
        count("build of manifest-check", make("manifest-check"))
    image = count("build of the image", make("image"))
    guests = count("build of the guests", make("guests"))
    count("build of the firmware", make("firmware"))
    if image:
        count("no FP or SIMD registers in the image", run("tools/check-no-fp", "build/weir.elf"))
    if image and guests:
        boot_tests()
    else:
        count("boot tests (nothing to boot)", False)
    for what in failed:
        print(f"failed: {what}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
