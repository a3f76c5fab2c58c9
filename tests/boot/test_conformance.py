"""The conformance suite (tests/conformance) as a guest: under Weir, on QEMU's SMMU without Weir, and the software model
that mimics the latter. What differs from "pass" is listed and explained in tests/conformance/differences.md; what is
not listed fails, and so does what is listed and no longer happens."""
from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass

from boot import REPOSITORY, Machine, Result, boot, limit, needs, payload
from guests import BOOT, TESTDEV, expect_ok, root_port, said

DIFFERENCES = REPOSITORY / "tests/conformance/differences.md"
LIMIT = 150
TOGETHER = True  # the outcomes of one run serve several tests


@dataclass(frozen=True)
class Outcome:
    verdict: str  # pass, fail or skip
    text: str     # why


def outcomes(lines: list[str]) -> dict[str, Outcome]:
    """By "SECTION NAME"."""
    found = {}
    for line in lines:
        if match := re.fullmatch(r"case (\S+ \S+): (pass|fail|skip)(?:: (.*))?", line):
            assert match[1] not in found, f"two outcomes of {match[1]}"
            found[match[1]] = Outcome(match[2], match[3] or "")
    return found


def payload_outcomes(result: Result) -> dict[str, Outcome]:
    expect_ok(result, "conformance")
    return outcomes(said(result, "conformance"))


@functools.cache
def under_weir() -> dict[str, Outcome]:
    machine = Machine("conformance", cpus=2, memory="512M", devices=[
        root_port(1, smmu=1), f"{TESTDEV},bus=rp1", root_port(2, smmu=1), f"{TESTDEV},bus=rp2"])
    return payload_outcomes(boot(machine, BOOT / "conformance/manifest.dts",
                                 {"conformance.bin": payload("conformance")}, limit=LIMIT))


@functools.cache
def under_qemu() -> dict[str, Outcome]:
    machine = Machine("conformance-qemu", smmus=1, cpus=1, memory="512M", virtualization=False,
                      devices=[f"{TESTDEV},bus=pcie.0", f"{TESTDEV},bus=pcie.0"])
    return payload_outcomes(machine.run(payload("conformance"), append="bare", limit=LIMIT))


def on_model() -> dict[str, Outcome]:
    program = REPOSITORY / "build/host/conformance"
    done = subprocess.run([program, "model-qemu"], stdout=subprocess.PIPE, text=True, check=True)
    return outcomes(done.stdout.splitlines())


def listed(machine: str) -> dict[str, str]:
    """Case -> outcome, as differences.md has them: | section | case | machine | outcome | why |."""
    found = {}
    for line in DIFFERENCES.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if len(cells) < 5 or machine not in cells[2].split(", "):
            continue
        assert cells[4], f"{cells[1]} lacks an explanation"
        found[f"{cells[0]} {cells[1]}"] = cells[3]
    return found


def compare(machine: str, seen: dict[str, Outcome]) -> None:
    assert len(seen) > 100, f"{len(seen)} cases"
    expected = listed(machine)
    wrong = [f"{case}: {outcome.verdict}: {outcome.text}" for case, outcome in seen.items()
             if outcome.verdict == "fail" and expected.get(case) != "fail"]
    wrong += [f"{case}: listed as {verdict}, but {seen[case].verdict if case in seen else 'there is no such case'}"
              for case, verdict in expected.items() if case not in seen or seen[case].verdict != verdict]
    assert not wrong, f"{len(wrong)} outcomes on {machine} are not as differences.md has them: {'; '.join(wrong[:10])}"


@limit(2 * LIMIT)
def test_conformance_weir():
    """The suite on a vSMMU over QEMU's SMMU."""
    compare("weir", under_weir())


@limit(LIMIT)
def test_conformance_qemu():
    """The same payload on QEMU's SMMU without Weir."""
    compare("qemu", under_qemu())


@limit(3 * LIMIT)
def test_conformance_skips():
    """A case that one machine skips and another runs: every reason is explained."""
    weir, qemu = under_weir(), under_qemu()
    assert weir.keys() == qemu.keys(), "the two machines ran different cases"
    reasons = {outcome.text for case in weir for outcome, other in ((weir[case], qemu[case]), (qemu[case], weir[case]))
               if outcome.verdict == "skip" and other.verdict != "skip"}
    text = DIFFERENCES.read_text()
    missing = sorted(reason for reason in reasons if f"| `{reason}` |" not in text)
    assert not missing, f"differences.md does not explain: {'; '.join(missing)}"


@needs("build/host/conformance")
@limit(3 * LIMIT)
def test_conformance_model():
    """The software model that mimics QEMU ends each case as QEMU does, if the payload's devices can do what it takes."""
    model, qemu = on_model(), under_qemu()
    wrong = [f"{case}: {model[case].verdict} ({model[case].text}), QEMU {outcome.verdict} ({outcome.text})"
             for case, outcome in qemu.items()
             if model[case].verdict != outcome.verdict and not outcome.text.startswith("devices ")]
    assert not wrong, f"{len(wrong)} cases end differently on the model: {'; '.join(wrong[:10])}"
