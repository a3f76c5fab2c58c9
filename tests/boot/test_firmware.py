"""Boots by real firmware (`make firmware`): below TF-A, which leaves to lower exception levels what its defaults open
and nothing else, on the CPUs that it knows; and by U-Boot alone. QEMU's own loader opens everything and hides what is
missing."""
from __future__ import annotations

import re
from pathlib import Path

from boot import Result, add, limit
from guests import boot_payload, expect_handled, expect_ok
from qemu import RUN
from test_linux import run_disks

# The defaults of PLAT=qemu keep `max` closed where the boot protocol wants it open (TCR2): no Linux boots there either.
TFA = {"neoverse-n1": "tf-a", "neoverse-n2": "tf-a", "max": "tf-a-closed"}
MEMORY = "1G"  # with less TF-A has no place for U-Boot
EC_SMC = 0x17


def expect_firmware(result: Result, *banners: str) -> None:
    """It was this firmware that started Weir, and it did not end the run."""
    at = 0
    for banner in (*banners, r"weir: image at"):
        found = re.compile(rf"^{banner}", re.MULTILINE).search(result.log.replace("\r", ""), at)
        assert found, f"the console does not show '{banner}' in its place (log: {result.path / 'console.log'})"
        at = found.end()
    assert not result.el3_crash(), f"{result.el3_crash()} (log: {result.path / 'console.log'})"


def below_tfa(payload: str, cpu: str) -> None:
    result = boot_payload(payload, run=f"tf-a/{payload}-{cpu}", time=100, cpu=cpu, memory=MEMORY, firmware=TFA[cpu])
    expect_ok(result, payload)
    if payload not in ("garbage", "features"):  # they provoke what Weir refuses and says
        expect_handled(result)
    expect_firmware(result, "NOTICE:  BL1: ", "NOTICE:  BL31: ", "U-Boot ")


def linux_below_tfa(cpu: str) -> None:
    expect_firmware(run_disks(f"tf-a/linux-{cpu}", cpu=cpu, firmware=TFA[cpu]), "NOTICE:  BL1: ", "NOTICE:  BL31: ", "U-Boot ")


def traps_to_el3(log: Path) -> list[str]:
    """Exceptions to EL3 that are no SMC, as QEMU's log has them: EC and ISS."""
    taken = re.findall(r"^\.\.\.from EL[012] to EL3\n\.\.\.with ESR (0x[0-9a-f]+)/(0x[0-9a-f]+)", log.read_text(), re.MULTILINE)
    assert any(int(ec, 16) == EC_SMC for ec, _ in taken), f"{log} does not show a single SMC"
    return [f"EC {ec} ESR {esr}" for ec, esr in taken if int(ec, 16) != EC_SMC]


def never_in_el3(payload: str, cpu: str) -> None:
    """EL3 traps what the boot protocol does not open. TF-A answers an unknown trap as UNDEFINED where older ones panic:
    neither Weir nor its guest may cause one."""
    name = f"tf-a-closed/{payload}-{cpu}"
    log = RUN / name / "exceptions.log"
    result = boot_payload(payload, run=name, time=100, cpu=cpu, firmware="tf-a-closed", memory=MEMORY,
                          extra=["-d", "int", "-D", str(log)])
    expect_ok(result, payload)
    expect_firmware(result, "NOTICE:  BL1: ", "NOTICE:  BL31: ", "U-Boot ")
    traps = traps_to_el3(log)
    assert not traps, f"{len(traps)} traps to EL3, the first: {traps[0]} (log: {log})"


for _cpu in TFA:
    for _payload in ("features", "psci"):
        add(globals(), f"{_payload}_never_in_el3_{_cpu}", 120, never_in_el3, _payload, _cpu)
    add(globals(), f"linux_below_tfa_{_cpu}", 300, linux_below_tfa, _cpu)
    for _payload in ("features", "gic", "psci", "garbage"):
        add(globals(), f"{_payload}_below_tfa_{_cpu}", 120, below_tfa, _payload, _cpu)


@limit(300)
def test_linux_by_uboot():
    expect_firmware(run_disks("u-boot/linux", cpu="neoverse-n1", firmware="u-boot"), "U-Boot ")
