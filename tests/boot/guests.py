"""What the boot tests of the payloads in tests/guests share: their machines, and reading what they said."""
from __future__ import annotations

import re
from pathlib import Path

from boot import IMAGE, REPOSITORY, Machine, Result, boot, payload

BOOT = REPOSITORY / "tests/boot"
TESTDEV = "iommu-testdev"


def root_port(number: int, smmu: int) -> str:
    """A root port rp<number> under an SMMU > 0, in the slot of that number: in slot 0 two of them would share a line."""
    return f"pcie-root-port,id=rp{number},bus=pcie.{smmu},addr={number},chassis={number},slot={number}"


def boot_payload(name: str, cpus: int = 2, time: float = 60, run: str = "", changes: dict[str, str] | None = None,
                 **options) -> Result:
    """The payload in a VM of its own, as tests/boot/NAME/manifest.dts says; one iommu-testdev is there for it. `run`: the
    run's name if not the payload's; `changes` replace texts of the manifest; `options`: of the Machine."""
    machine = Machine(run or name, cpus=cpus, devices=[root_port(1, smmu=1), f"{TESTDEV},bus=rp1"],
                      **{"memory": "512M"} | options)
    return boot(machine, changed(BOOT / name / "manifest.dts", changes), {f"{name}.bin": payload(name)}, limit=time)


def changed(manifest: Path, changes: dict[str, str] | None) -> str:
    """The manifest's text, with texts replaced that are in it once."""
    text = manifest.read_text()
    for old, new in (changes or {}).items():
        assert text.count(old) == 1, f"{manifest.parent.name}/{manifest.name} has changed: {old}"
        text = text.replace(old, new)
    return text


def boot_nested(name: str, changes: dict[str, str] | None = None, image: Path = IMAGE, time: float = 60,
                **options) -> Result:
    """The payload `nested` on two physical SMMUs; see nested/manifest.dts, in which `changes` replace texts. `options`: of
    the Machine."""
    machine = Machine(name, cpus=2, memory="1G", **options, devices=[
        root_port(1, smmu=1), f"{TESTDEV},bus=rp1", root_port(2, smmu=2), f"{TESTDEV},bus=rp2", root_port(3, smmu=2),
        f"{TESTDEV},bus=rp3"])
    return boot(machine, changed(BOOT / "nested/manifest.dts", changes), {"nested.bin": payload("nested")}, image=image,
                limit=time)


def said(result: Result, guest: str) -> list[str]:
    """What that payload printed, whatever a console puts in front of it."""
    mark = f"guest: {guest}: "
    return [line[line.index(mark) + len(mark):].rstrip() for line in result.lines if mark in line]


def weir_lines(result: Result, word: str = "") -> list[str]:
    return [line for line in result.lines if line.startswith(f"weir: {word}")]


def expect_ok(result: Result, guest: str) -> None:
    """The payload's verdict is OK, Weir did not panic, and the machine went off as it should."""
    log = f"(log: {result.path / 'console.log'})"
    lines = said(result, guest)
    for line in [line for line in lines if line.startswith("FAIL")] + weir_lines(result, "panic"):
        raise AssertionError(f"{line} {log}")
    assert not result.el3_crash(), f"{result.el3_crash()} {log}"
    last = next((line for line in reversed(result.lines) if line.strip()), "")
    assert "OK" in lines, f"no verdict within {result.seconds:.0f} s; the last line is: {last} {log}"
    assert result.status == 0, f"QEMU's status is {result.status} after {result.seconds:.0f} s {log}"


def expect_handled(result: Result, allowed: str | None = None) -> None:
    """Weir handled all traps, but for those whose line matches a regular expression."""
    for line in weir_lines(result, "unhandled"):
        assert allowed and re.search(allowed, line), f"{line} (log: {result.path / 'console.log'})"
