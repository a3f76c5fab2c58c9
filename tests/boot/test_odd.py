"""Devicetrees with odd things in them: each costs a line, not the machine."""
from __future__ import annotations

import re
from pathlib import Path

from boot import IMAGE, Machine, Result, boot, compile_dts, limit, payload
from guests import BOOT, changed, expect_ok
from qemu import decompile_dtb

# (QEMU writes the memory nodes itself.) A reserved range that is empty, reserved-memory that translates nothing, a CPU that PSCI refuses, an SMMU that is
# too small, a PCI host of another kind, and more carve-outs than any table was made for.
ODD = """
/ {
	reserved-memory {
		#address-cells = <2>;
		#size-cells = <2>;
		empty { reg = <0x0 0x50000000 0x0 0x0>; };
		%s
	};
	cpus { cpu@7f00 { device_type = "cpu"; compatible = "arm,armv8"; reg = <0x7f00>; enable-method = "psci"; }; };
	smmu@d000000 { compatible = "arm,smmu-v3"; reg = <0x0 0xd000000 0x0 0x1000>; };
	pcie@e000000 { compatible = "vendor,pcie"; device_type = "pci"; };
};
""" % "\n\t\t".join(f"x{i} {{ reg = <0x0 {0x60000000 + i * 0x8000:#x} 0x0 0x1000>; }};" for i in range(300))
REMARKS = ("/reserved-memory: ranges: missing; ",
           "reserved range is left out: /reserved-memory/empty: reg = ", "SMMU is left out: /smmu@d000000: reg = ",
           'PCI host is left out: /pcie@e000000: compatible = "vendor,pcie": ')


class OddMachine(Machine):
    """A machine whose devicetree has more than QEMU's."""
    more = ""

    def dtb(self) -> Path:
        complete = super().dtb()
        return compile_dts(decompile_dtb(complete) + self.more, self.path / "odd.dtb")


@limit(90)
def test_everything():
    machine = OddMachine("odd/everything", cpus=4)
    machine.more = ODD
    result = machine.run(IMAGE, append="weir.exit=semihosting weir.selftest=core", limit=60)
    where = f"(log: {result.path / 'console.log'})"
    assert result.status == 0, f"status {result.status} {where}"
    for remark in REMARKS:
        assert f"weir: {remark}" in result.log, f"the log lacks: {remark} {where}"
    assert "(MPIDR 0x7f00) is not used: PSCI refuses to start it" in result.log, f"no word of the CPU {where}"
    assert "weir: 4 CPUs up" in result.log, f"the other CPUs are not up {where}"


@limit(60)
def test_initrd_outside_of_memory():
    """One line, where there was a data abort."""
    machine = OddMachine("odd/initrd", cpus=1)
    machine.more = "/ { chosen { linux,initrd-start = <0x30000000>; linux,initrd-end = <0x30100000>; }; };"
    result = machine.run(IMAGE, append="weir.exit=semihosting", limit=40)
    where = f"(log: {result.path / 'console.log'})"
    assert result.status == 1, f"status {result.status} {where}"
    line = "weir: initrd is left out: /chosen: linux,initrd-start = <0x30000000>: not in memory; expected "
    assert line in result.log, f"the log lacks: {line} {where}"
    assert "panic" not in result.log, f"Weir panicked {where}"


@limit(60)
def test_misspelt_option():
    machine = Machine("odd/option", cpus=1)
    result = machine.run(IMAGE, append="weir.exit=semihosting weir.selftests=core", limit=40)
    where = f"(log: {result.path / 'console.log'})"
    assert result.status == 1, f"status {result.status} {where}"
    assert 'weir: /chosen: bootargs: "weir.selftests=core": not an option of Weir; expected ' in result.log, where


def in_pieces(name: str, mib: int) -> Result:
    """The payload psci in a VM of that size, on a machine with 1 GiB whose memory is in several pieces."""
    machine = OddMachine(f"odd/{name}", cpus=2, memory="1G")
    machine.more = """
/ {
	reserved-memory {
		#address-cells = <2>;
		#size-cells = <2>;
		ranges;
		a { reg = <0x0 0x58000000 0x0 0x1000>; };
		b { reg = <0x0 0x68000000 0x0 0x1000>; no-map; };
	};
};
"""
    manifest = changed(BOOT / "psci/manifest.dts", {"0x4000000": f"{mib << 20:#x}"})
    return boot(machine, manifest, {"psci.bin": payload("psci")}, limit=40)


@limit(150)
def test_memory_in_pieces():
    """A VM that fits into no piece of the machine's memory; and what a refusal names is accepted."""
    refused = in_pieces("refused", 1024)
    where = f"(log: {refused.path / 'console.log'})"
    left = re.search(r"weir: /vms/psci: memory = .*: 1024 MiB are asked for, (\d+) of \d+ MiB are left", refused.log)
    assert refused.status == 1 and left, f"status {refused.status} {where}"
    result = in_pieces("pieces", int(left[1]))
    expect_ok(result, "psci")
    pieces = re.search(rf"weir: vm psci: 2 vCPUs, {left[1]} MiB in (\d+) pieces", result.log)
    assert pieces and int(pieces[1]) >= 3, f"the VM's memory is in one piece (log: {result.path / 'console.log'})"
