#!/usr/bin/env python3
"""`make mutants`: plants the faults of tests/mutants/*.toml, one at a time, and sees whether the tests notice.

    tools/mutants.py [NAME...]    those whose name contains NAME; build/mutation/unmutated must be there (`make mutants` sees to it)

A mutant replaces one piece of one file. What uses the file is compiled again (without sanitizers) and linked before the objects of
the unmutated test program; then the tests that ought to notice run, and if they do not, all of them. A mutant that survives fails, and
so does one that no longer fits its file. Results: build/mutation/mutants.json; logs: build/mutation/NAME/log."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build/mutation"
# Who uses what a mutant changes in a header, and is compiled again; for other headers, all sources of the folder that include them.
# An inline function that others have too is linked from these, which come first.
USERS = {
    "vsmmu/command_rules.hpp": ["vsmmu/commands.cpp", "vsmmu/vsmmu.cpp"],
    "guest-abi/smmu/command.hpp": ["vsmmu/commands.cpp"],
    "vsmmu/fanout.hpp": ["vsmmu/commands.cpp", "vsmmu/fanout.cpp"],
    "vsmmu/range.hpp": ["vsmmu/fanout.cpp"],
    "guest-abi/smmu/event.hpp": ["vsmmu/event_rebuild.cpp"],
    "vsmmu/register_rules.hpp": ["vsmmu/register_file.cpp"],
    "vsmmu/register_file.hpp": ["vsmmu/irq.cpp", "vsmmu/event_queue.cpp", "vsmmu/commands.cpp"],
    "hyp/patch/patch.hpp": ["hyp/patch/patch.cpp", "tests/unit/patch/patch_test.cpp"],
    "hyp/gic/group0.hpp": ["tests/unit/gic/group0_test.cpp"],
    "hyp/vm/guest_memory.hpp": ["tests/unit/vm/guest_memory_test.cpp"],
}
FEW, ALL = 60, 400  # seconds for the expected tests, and for all: who hangs is noticed too


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str  # occurs once
    new: str
    why: str  # what it would do to a user
    tests: str  # a filter as of GoogleTest: who ought to notice


@dataclass
class Result:
    name: str
    caught: bool
    says: str
    seconds: float = 0


def make_variable(name: str) -> list[str]:
    run = subprocess.run(["make", "-s", f"print-{name}"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return shlex.split(run.stdout)


def read_mutants() -> list[Mutant]:
    found: list[Mutant] = []
    for path in sorted((REPOSITORY / "tests/mutants").glob("*.toml")):
        found += [Mutant(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]
    names = [m.name for m in found]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        sys.exit(f"mutants: names that occur twice: {', '.join(sorted(twice))}")
    return found


def users_of(file: str) -> list[str]:
    """The sources to compile again, from the dependencies that the compiler wrote down. Of a header, only those that matter here."""
    if file.endswith(".cpp"):
        return [file]
    if file in USERS:
        return USERS[file]
    folder = "vsmmu" if file.startswith("guest-abi/") else file.split("/")[0]
    users = []
    for depends in (BUILD / "obj" / folder).rglob("*.d"):
        if re.search(rf"(^|\s){re.escape(file)}(\s|$)", depends.read_text(), re.MULTILINE):
            users.append(str(depends.relative_to(BUILD / "obj")).removesuffix(".d"))
    return sorted(users)


class Tests:
    """Runs of a test program, whose output says who noticed."""

    def __init__(self, program: Path, log: Path):
        self.program, self.log = program, log

    def noticed(self, only: str | None) -> str | None:
        """Who fails, or None."""
        command = [str(self.program), "--gtest_fail_fast", "--gtest_color=no"] + ([f"--gtest_filter={only}"] if only else [])
        with self.log.open("a") as log:
            at = log.tell()
            log.write(f"$ {shlex.join(command)}\n")
            log.flush()
            try:
                code = subprocess.run(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, check=False,
                                      timeout=FEW if only else ALL).returncode
            except subprocess.TimeoutExpired:
                code = None
        if code == 0:
            return None
        with self.log.open(errors="replace") as log:
            log.seek(at)
            said = log.read()
        failed = re.search(r"^\[  FAILED  \] (\S+?),? .*ms\)$", said, re.MULTILINE)
        if failed:
            return failed[1]
        started = re.findall(r"^\[ RUN      \] (\S+)$", said, re.MULTILINE)
        return f"{started[-1] if started else 'the start'} ({'hangs' if code is None else 'crashes'})"


class Runner:
    def __init__(self) -> None:
        self.compile = ["clang++-19", *make_variable("MUTATION_CXXFLAGS")]
        self.link = ["clang++-19", *make_variable("MUTATION_LDFLAGS")]
        self.tests = [REPOSITORY / o for o in make_variable("mutation_test_objects")]
        self.libraries = [str(BUILD / "portable.a"), *make_variable("HOST_LIBS")]

    def unmutated_passes(self) -> bool:
        """Or everything would count as caught. Asked once per program."""
        program, stamp, log = BUILD / "unmutated", BUILD / "unmutated.passed", BUILD / "unmutated.log"
        if stamp.exists() and stamp.stat().st_mtime >= program.stat().st_mtime:
            return True
        log.unlink(missing_ok=True)
        who = Tests(program, log).noticed(None)
        if who is None:
            stamp.touch()
        else:
            print(f"mutants: without any mutant, {who} fails; see {log}", flush=True)
        return who is None

    def run(self, mutant: Mutant) -> Result:
        begin = time.monotonic()
        try:
            caught, says = self.try_mutant(mutant)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            caught, says = False, str(error)
        result = Result(mutant.name, caught, says, time.monotonic() - begin)
        print(f"mutant {mutant.name}: {'caught by ' + says if caught else 'FAIL: ' + says} ({result.seconds:.0f} s)", flush=True)
        return result

    def try_mutant(self, mutant: Mutant) -> tuple[bool, str]:
        text = (REPOSITORY / mutant.file).read_text()
        if text.count(mutant.old) != 1:
            return False, f"its text occurs {text.count(mutant.old)} times in {mutant.file}"
        listed = subprocess.run([str(BUILD / "unmutated"), "--gtest_list_tests", f"--gtest_filter={mutant.tests}"],
                                capture_output=True, text=True, check=True).stdout
        if "\n  " not in listed:
            return False, f"no test is called {mutant.tests}"

        where = BUILD / mutant.name
        shutil.rmtree(where, ignore_errors=True)
        overlay = where / "source"
        (overlay / mutant.file).parent.mkdir(parents=True)
        (overlay / mutant.file).write_text(text.replace(mutant.old, mutant.new))
        log = where / "log"
        objects = []
        for source in users_of(mutant.file):
            object_ = where / (source.replace("/", "_") + ".o")
            # The overlay comes first for the source, and for every #include, which are all relative to the root.
            path = overlay / source if source == mutant.file else REPOSITORY / source
            self.build([*self.compile[:1], f"-I{overlay}", *self.compile[1:], "-c", str(path), "-o", str(object_)], log)
            objects.append(str(object_))
        if not objects:
            return False, f"nothing uses {mutant.file}"
        program = where / "tests"
        # Of tests too, the mutated object replaces the other.
        replaced = {str(BUILD / "obj" / f"{source}.o") for source in users_of(mutant.file)}
        others = [str(o) for o in self.tests if str(o) not in replaced]
        # An archive member is taken only for what is still undefined: the mutated object, which comes first, replaces it.
        self.build([*self.link, *objects, *others, *self.libraries, "-o", str(program)], log)

        tests = Tests(program, log)
        who = tests.noticed(mutant.tests)
        if who is None and (who := tests.noticed(None)) is not None:
            who += f", not by {mutant.tests}"
        program.unlink()
        if who is None:
            return False, f"SURVIVES. {mutant.why}"
        return True, who

    @staticmethod
    def build(command: list[str], log: Path) -> None:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log.write_text(f"$ {shlex.join(command)}\n{done.stderr}")
            first = next((line for line in done.stderr.splitlines() if "error" in line), "")
            raise ValueError(f"does not build: {first}")


def main() -> int:
    names = sys.argv[1:]
    mutants = [m for m in read_mutants() if not names or any(n in m.name for n in names)]
    if not mutants:
        sys.exit("mutants: none of that name")
    runner = Runner()
    if not runner.unmutated_passes():
        return 1
    begin = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(runner.run, mutants))
    report = {"caught": [r.name for r in results if r.caught], "failed": [r.name for r in results if not r.caught]}
    (BUILD / "mutants.json").write_text(json.dumps(report))
    print(f"mutants: {len(report['caught'])} caught, {len(report['failed'])} failed, {time.monotonic() - begin:.0f} s")
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
