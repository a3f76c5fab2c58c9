#!/usr/bin/env python3
"""Checks the protocol models of this folder with spin, exhaustively: every "holds:" line of a model must hold, and every
"fails:" line, which breaks the protocol on purpose, must fail. `run.py [NAME]`: only models with that in their name."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build/spin"
LIMIT = 300  # seconds for one search; all of them together take less


@dataclass
class Case:
    model: Path
    defines: list[str]
    holds: bool

    @property
    def name(self) -> str:
        return " ".join([self.model.stem, *self.defines])


def cases(model: Path) -> list[Case]:
    found = []
    for line in model.read_text().splitlines():
        if match := re.match(r" \* (holds|fails):((?: ?[A-Z][A-Z0-9_=]*\b)*)", line):
            found.append(Case(model, match[2].split(), match[1] == "holds"))
    assert any(c.holds for c in found), f"{model.name} says nothing that holds"
    return found


def run(case: Case) -> tuple[bool, str]:
    where = BUILD / case.name.replace(" ", "-")
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    log = where / "log"

    def command(*words: str) -> str:
        done = subprocess.run(words, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              timeout=LIMIT)
        with log.open("a") as out:
            out.write(f"$ {' '.join(words)}\n{done.stdout}")
        return done.stdout

    defines = [f"-D{d}" for d in case.defines]
    try:
        command("spin", "-Pclang-19 -E -P -x c", "-a", *defines, str(case.model))
        command("clang-19", "-w", "-O1" if case.holds else "-O0", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048", "-o", "pan", "pan.c")
        said = command("./pan", "-m1000000", "-w22")
    except FileNotFoundError:
        return False, f"does not build; see {log}"
    except subprocess.TimeoutExpired:
        return False, f"not done after {LIMIT} s; see {log}"
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d\S*) states, stored", said)
    if not errors or not states:
        return False, f"does not run; see {log}"
    complete = "Search not completed" not in said and "max search depth too small" not in said
    failed = int(errors[1]) != 0
    if case.holds:
        if failed:
            command("spin", "-Pclang-19 -E -P -x c", "-t", "-p", "-g", *defines, str(case.model))
            return False, f"FAILS: {re.search(r'pan.*: (.*)', said)[0]}; see {log}"
        if not complete:
            return False, f"the search was cut short; see {log}"
        return True, f"holds in all {float(states[1]):.0f} states"
    # By an assertion: a deadlock of the model would prove nothing.
    if "assertion violated" in said:
        return True, "is seen to fail"
    return False, f"is not seen to fail by an assertion; see {log}"


def main() -> int:
    chosen = [c for model in sorted(HERE.glob("*.pml")) for c in cases(model)
              if len(sys.argv) < 2 or sys.argv[1] in model.stem]
    begin = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(zip(chosen, pool.map(run, chosen)))
    report = {"passed": [], "failed": []}
    for case, (ok, says) in results:
        print(f"spin {case.name}: {says if ok else 'FAIL: ' + says}", flush=True)
        report["passed" if ok else "failed"].append(case.name)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "spin.json").write_text(json.dumps(report))
    print(f"spin: {len(report['passed'])} as they should, {len(report['failed'])} not, {time.monotonic() - begin:.0f} s")
    return 1 if report["failed"] or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
