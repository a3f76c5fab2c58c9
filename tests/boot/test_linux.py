"""Debian's Linux with two disks behind two physical SMMUs: what `make run` does."""
from __future__ import annotations

import re
import time
from pathlib import Path

from boot import IMAGE, limit
from guests import BOOT, changed
from qemu import Result, compile_dts
from run_linux import KERNEL, check, default_machine, initramfs
from test_fleet import tlbis

# ARM_SMMU_FEAT_* of drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h, by bit: what Linux must find, and what must not be there.
OFFERED = {0: "2_LVL_STRTAB", 2: "TT_LE", 6: "SEV", 7: "MSI", 8: "COHERENCY", 9: "TRANS_S1", 15: "RANGE_INV"}
WITHHELD = {4: "PRI", 5: "ATS", 10: "TRANS_S2", 12: "HYP", 16: "BTM"}


def driver_trouble(result: Result) -> str | None:
    """What the guest's SMMU driver found or complains about that it should not, in one line. With MSI and COHERENCY it polls
    memory for the end of CMD_SYNC; a completion that does not get there is a timeout in its log."""
    found = re.search(r"arm-smmu-v3.*features (0x[0-9a-f]+)", result.log)
    if not found:
        return "the driver does not say which features it found"
    features = int(found[1], 16)
    for bit, name in OFFERED.items():
        if not features >> bit & 1:
            return f"the driver has not found {name} (features {found[1]})"
    for bit, name in WITHHELD.items():
        if features >> bit & 1:
            return f"the driver has found {name} (features {found[1]})"
    if "weir: ticks of the clock" in result.log:
        return "the clock for late work ran, though nothing was late"
    trouble = re.search(r"arm-smmu-v3.*(timeout|GERROR|unexpected|unhandled|event 0x|fail|error).*", result.log)
    return trouble[0].strip() if trouble else None


def run_disks(name: str, changes: dict[str, str] | None = None, kernel: Path = KERNEL, **options) -> Result:
    """What `make run` does, with texts of the manifest replaced. `options`: of the Machine."""
    machine, disks = default_machine(name, **options)
    original = {disk: path.read_bytes() for disk, path in disks.items()}
    source = changed(BOOT / "linux/manifest.dts", changes)
    initrd = machine.initrd({"manifest.dtb": compile_dts(source, machine.path / "manifest.dtb"), "Image": kernel,
                             "initramfs.cpio": initramfs(disks)})
    result = machine.run(IMAGE, initrd, limit=280)
    reason = check(result, disks, original) or driver_trouble(result)
    assert reason is None, f"{reason} (log: {machine.path / 'console.log'})"
    clock = re.search(r"init: the clock says (\d+)", result.log)  # from its RTC
    assert clock and abs(int(clock[1]) - time.time()) < 600, f"the guest's clock is wrong: {clock and clock[0]}"
    return result


@limit(300)
def test_disks():
    run_disks("boot-linux")


@limit(300)
def test_disks_precise():
    """Linux has a context descriptor for each disk, and no global pages: what invalidates one disk's pages is not sent to
    the other's SMMU."""
    backing = '"smmuv3@c020000", "smmuv3@c040000";'
    result = run_disks("boot-linux-precise", {backing: f'{backing} invalidation = "precise"; no-global-pages; late-events;'})
    received, sent = tlbis(result, "vsmmu vsmmu0")
    assert len(sent) == 2 and all(sent.values()) and sum(sent.values()) < received * 3 // 2, \
        f"of {received} TLBIs the SMMUs were sent {sent} (log: {result.path / 'console.log'})"
