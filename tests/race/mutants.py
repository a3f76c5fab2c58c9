#!/usr/bin/env python3
"""Breaks what the race tests are about, one thing at a time: they must notice, by ThreadSanitizer or by a device that reaches
what is gone. (A missing fence is not for them to see, but for tests/spin.) `make race-mutants [T=name]`; not part of
`make test`, because it takes some minutes."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUILD = REPOSITORY / "build/host/tsan-mutants"
OBJECTS = REPOSITORY / "build/host/tsan"


@dataclass
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: str
    users: tuple[str, ...] = ()  # of a header: what is compiled again


MACHINE = "*MachineRace*"
MUTANTS = [
    Mutant("leave-relaxed", "stage2/epoch.hpp", "slot.epoch.store(0, std::memory_order_release)",
           "slot.epoch.store(0, std::memory_order_relaxed)", "*Grace*", ("tests/race/primitives_test.cpp", "stage2/epoch.cpp")),
    Mutant("synchronize-waits-for-nobody", "stage2/epoch.cpp", "if (epoch == 0 || epoch > now) break;", "break;", "*Grace*"),
    Mutant("expires-too-early", "stage2/epoch.cpp", "first_->epoch_ < oldest", "first_->epoch_ <= oldest", "*Grace*"),
    Mutant("descriptors-not-before-the-array", "stage2/domain.cpp",
           "  invalidate(ipa, bytes, leaf_only);\n  grace_.synchronize();", "  grace_.synchronize();", MACHINE),
    Mutant("tables-released-without-grace", "stage2/domain.cpp", "  grace_.synchronize();\n  gone.release();",
           "  gone.release();", MACHINE),
    Mutant("array-loaded-outside-a-section", "stage2/domain.cpp",
           "    const Grace::ReadSection section{grace_};\n    array = array_.load(std::memory_order_acquire);\n",
           "    array = array_.load(std::memory_order_acquire);\n    for (int n = 0; n < 50; ++n) weir::race::yield();\n", MACHINE),
    Mutant("published-late", "stage2/domain.cpp",
           "  auto installed = smmu.install_ste(sid, ste);",
           "  drop(added.span());\n  auto installed = smmu.install_ste(sid, ste);\n"
           "  for (int n = 0; n < 50; ++n) weir::race::yield();\n  static_cast<void>(reference(added.span()));", MACHINE),
    Mutant("no-flush-of-a-tag", "stage2/domain.cpp", "  run(tag->smmu(), smmu::tlbi_s12_vmall(tag->vmid()));\n", "", MACHINE),
    Mutant("one-phase-less", "stage2/invalidate.cpp",
           "return issue(array, dead, *group.smmu, group.streams, no_nh_all ? group.nested : group.ats);",
           "return issue(array, dead, *group.smmu, group.streams, no_nh_all ? group.streams : group.streams);", MACHINE),
    Mutant("streams-copied-without-the-lock", "vsmmu/streams.cpp",
           "  const SpinLock::Guard guard{lock_};\n  const std::size_t at = lower_bound(vsid.value);",
           "  const std::size_t at = lower_bound(vsid.value);", MACHINE),
    Mutant("a-push-without-the-lock", "hyp/smmu/command_queue.cpp",
           "    const SpinLock::Guard guard{lock_};\n    if (append_plain", "    if (append_plain", "*EachSync*:" + MACHINE),
    Mutant("log-collected-without-invalidation", "stage2/domain.cpp",
           "  if (cleaned != 0) finish_log(ipa, bytes, change);\n  return collected;", "  return collected;", MACHINE),
    Mutant("read-only-pages-not-logged", "stage2/table_walk.cpp", "    return stores_pass(page) ? page : logged(page, writable, true);",
           "    return stores_pass(page) || !writable ? page : logged(page, writable, true);", "*Log*:" + MACHINE),
    Mutant("log-freed-under-el2", "stage2/domain.cpp",
           "    change.unlock();\n    grace_.synchronize();\n    gone.release();\n    return {};",
           "    change.unlock();\n    gone.release();\n    return {};", "*LogsCome*"),
    Mutant("vmid-by-load-and-store", "stage2/tag.cpp", "(std::uint64_t{1} << bit), std::memory_order_acquire,",
           "(std::uint64_t{1} << bit), std::memory_order_relaxed,", "*Vmid*"),
]


def run(mutant: Mutant) -> tuple[bool, str]:
    text = (REPOSITORY / mutant.file).read_text()
    if text.count(mutant.old) == 0:
        return False, f"{mutant.file} has no such text (any more)"
    where = BUILD / mutant.name
    shutil.rmtree(where, ignore_errors=True)
    (where / mutant.file).parent.mkdir(parents=True)
    source = where / mutant.file
    source.write_text(text.replace(mutant.old, mutant.new))
    flags = subprocess.run(["make", "-s", "print-RACE_CXXFLAGS"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    compiled, objects = mutant.users or (mutant.file,), []
    for name in compiled:
        # The mutated file comes first, also for every #include, which are all relative to the root.
        path = source if name == mutant.file else REPOSITORY / name
        objects.append(str(where / (name.replace("/", "_") + ".o")))
        subprocess.run(["clang++-19", f"-I{where}", *flags.stdout.split(), "-c", str(path), "-o", objects[-1]], cwd=REPOSITORY, check=True)
    others = [str(o) for o in OBJECTS.rglob("*.o") if str(o.relative_to(OBJECTS)).removesuffix(".o") not in compiled]
    program = where / "tests"
    subprocess.run(["clang++-19", "-fsanitize=thread", "-fuse-ld=lld", *objects, *others, "-lgmock_main", "-lgmock", "-lgtest",
                    "-lpthread", "-o", str(program)], cwd=REPOSITORY, check=True)
    with (where / "log").open("w") as log:
        try:
            code = subprocess.run([str(program), f"--gtest_filter={mutant.tests}", "--gtest_fail_fast"], stdout=log,
                                  stderr=subprocess.STDOUT, check=False, timeout=180).returncode
        except subprocess.TimeoutExpired:
            code = None
    program.unlink()
    said = (where / "log").read_text(errors="replace")
    if code == 0:
        return False, "SURVIVES"
    if "WARNING: ThreadSanitizer: " in said:
        return True, re.search(r"WARNING: ThreadSanitizer: ([a-z -]*)", said)[1].strip()
    reached = re.search(r'"(VM \d.*)"', said)
    return True, reached[1] if reached else "hangs" if code is None else "a test fails"


def main() -> int:
    failed = 0
    for mutant in MUTANTS:
        if len(sys.argv) > 1 and sys.argv[1] not in mutant.name:
            continue
        try:
            noticed, how = run(mutant)
        except subprocess.CalledProcessError:
            noticed, how = False, "does not build"
        failed += not noticed
        print(f"race mutant {mutant.name}: {'noticed: ' if noticed else 'FAIL: '}{how}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
