"""Boots by real firmware (`make firmware`): below TF-A, which leaves to lower exception levels what its defaults open and
nothing else, on the CPUs that it knows; and by U-Boot alone. QEMU's own loader opens everything and hides what is missing.
"""
from __future__ import annotations

import re

from boot import Result, limit
from guests import boot_payload, expect_handled, expect_ok
from test_linux import run_disks

CPUS = ("neoverse-n1", "neoverse-n2")
# PSCI is in EL3, and U-Boot starts the image: with less memory TF-A has no place for U-Boot.
BELOW_TFA = {"firmware": "tf-a", "memory": "1G"}


def expect_firmware(result: Result, *banners: str) -> None:
    """It was this firmware that started Weir, and it did not end the run."""
    at = 0
    for banner in (*banners, r"weir: image at"):
        found = re.compile(rf"^{banner}", re.MULTILINE).search(result.log.replace("\r", ""), at)
        assert found, f"the console does not show '{banner}' in its place (log: {result.path / 'console.log'})"
        at = found.end()
    assert not result.el3_crash(), f"{result.el3_crash()} (log: {result.path / 'console.log'})"


def below_tfa(payload: str, cpu: str) -> None:
    result = boot_payload(payload, run=f"tf-a/{payload}-{cpu}", time=100, cpu=cpu, **BELOW_TFA)
    expect_ok(result, payload)
    if payload not in ("garbage", "features"):  # they provoke what Weir refuses and says
        expect_handled(result)
    expect_firmware(result, "NOTICE:  BL1: ", "NOTICE:  BL31: ", "U-Boot ")


def linux_below_tfa(cpu: str) -> None:
    expect_firmware(run_disks(f"tf-a/linux-{cpu}", cpu=cpu, firmware="tf-a"), "NOTICE:  BL1: ", "NOTICE:  BL31: ", "U-Boot ")


def add(name: str, seconds: int, function, *arguments: str) -> None:
    """A test of that name, which calls the function."""
    def test() -> None:
        function(*arguments)
    globals()[f"test_{name}"] = limit(seconds)(test)


for _cpu in CPUS:
    add(f"linux_below_tfa_{_cpu}", 200, linux_below_tfa, _cpu)
    for _payload in ("features", "gic", "psci", "garbage"):
        add(f"{_payload}_below_tfa_{_cpu}", 120, below_tfa, _payload, _cpu)


@limit(200)
def test_linux_by_uboot():
    expect_firmware(run_disks("u-boot/linux", cpu="neoverse-n1", firmware="u-boot"), "U-Boot ")
