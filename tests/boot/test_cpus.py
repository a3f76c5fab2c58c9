"""Linux with its disks, and each payload in short, on the CPUs of the machines that have SMMUv3s, from Armv8.0 on."""
from __future__ import annotations

import re

from boot import add
from guests import boot_nested, boot_payload, expect_handled, expect_ok, said
from test_linux import run_disks
from test_memory import two_vms

SVE, SME, PAUTH = r"SVE [1-9]\d+ bits", r"SME [1-9]\d+ bits", "PAuth 1"
NO_SVE, NO_SME, NO_PAUTH = "SVE 0 bits", "SME 0 bits", "PAuth 0"
# What a guest must find of the registers that are never switched: all that the CPU has, as QEMU models it.
REGISTERS = {
    "cortex-a53": (NO_SVE, NO_SME, NO_PAUTH),
    "cortex-a57": (NO_SVE, NO_SME, NO_PAUTH),
    "cortex-a72": (NO_SVE, NO_SME, NO_PAUTH),
    "cortex-a55": (NO_SVE, NO_SME, NO_PAUTH),
    "cortex-a76": (NO_SVE, NO_SME, NO_PAUTH),
    "cortex-a710": (SVE, NO_SME, PAUTH),
    "neoverse-n1": (NO_SVE, NO_SME, NO_PAUTH),
    "neoverse-n2": (SVE, NO_SME, PAUTH),
    "neoverse-v1": (SVE, NO_SME, PAUTH),
    "a64fx": (SVE, NO_SME, NO_PAUTH),
    "max": (SVE, SME, PAUTH),
}
# Traps that the payload provokes and Weir says.
PROVOKED = {"mmio": "IPA 0x700000", "features": ".", "garbage": "."}


def run_payload(name: str, cpu: str, changes: dict[str, str] | None = None) -> None:
    result = boot_payload(name, run=f"cpus/{name}-{cpu}", time=100, changes=changes, cpu=cpu)
    expect_ok(result, name)
    expect_handled(result, allowed=PROVOKED.get(name))
    if name == "vectors":
        expected = ", ".join(REGISTERS[cpu])
        assert any(re.fullmatch(expected, line) for line in said(result, "vectors")), \
            f"the guest does not have the registers that the CPU has: {expected} (log: {result.path / 'console.log'})"


def run_nested(cpu: str) -> None:
    result = boot_nested(f"cpus/nested-{cpu}", cpu=cpu, time=100)
    expect_ok(result, "nested")
    expect_handled(result)


for _cpu in REGISTERS:
    add(globals(), f"linux_on_{_cpu}", 300, run_disks, f"cpus/linux-{_cpu}", cpu=_cpu)
    for _name in ("psci", "mmio", "garbage", "signals", "features", "gic"):
        add(globals(), f"{_name}_on_{_cpu}", 120, run_payload, _name, _cpu)
    add(globals(), f"vectors_on_{_cpu}", 120, run_payload, "vectors", _cpu, {"exits=1000000": "exits=50000"})
    add(globals(), f"nested_on_{_cpu}", 120, run_nested, _cpu)
    add(globals(), f"memory_on_{_cpu}", 120, two_vms, f"cpus/memory-{_cpu}", _cpu)
