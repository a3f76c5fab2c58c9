"""CPUs with errata, and CPUs of Armv8.0: what Weir says about them, and that it does not say it of others."""
from __future__ import annotations

from boot import limit
from guests import boot_payload, expect_handled, expect_ok, weir_lines

REPEATED, NO_DIRTY_STATE = "TLB maintenance is repeated", "hardware dirty state is not used"
NO_WALKS = "stage-1 walks are off while VTTBR_EL2 changes"
# By CPU, as QEMU's revisions of them are.
ERRATA = {
    "cortex-a53": [],
    "cortex-a57": [f"erratum 1319537 of Cortex-A57 (2 CPUs): {NO_WALKS}"],
    "cortex-a72": [f"erratum 1319367 of Cortex-A72 (2 CPUs): {NO_WALKS}"],
    "cortex-a55": [f"erratum 2441007 of Cortex-A55 (2 CPUs): {REPEATED}",
                   f"erratum 1024718 of Cortex-A55 (2 CPUs): {NO_DIRTY_STATE}",
                   f"erratum 1530923 of Cortex-A55 (2 CPUs): {NO_WALKS}"],
    "cortex-a76": [f"erratum 4193800 of Cortex-A76 (2 CPUs): {REPEATED}"],
    "neoverse-v1": [f"erratum 4193790 of Neoverse-V1 (2 CPUs): {REPEATED}"],
    "a64fx": [],
    "max": [],
}
ARMV8_0 = ("cortex-a53", "cortex-a57", "cortex-a72")


def said(result, word: str) -> list[str]:
    return [line[line.index("weir: ") + len("weir: "):].rstrip() for line in weir_lines(result, word)]


def check(cpu: str) -> None:
    """At boot and in the summary; a VM with two vCPUs runs."""
    result = boot_payload("psci", run=f"errata/{cpu}", cpus=2, time=40, cpu=cpu)
    expect_ok(result, "psci")
    expect_handled(result)
    found = said(result, "erratum")
    assert found == 2 * ERRATA[cpu], f"errata of {cpu}: {found} (log: {result.path / 'console.log'})"
    replaced = said(result, "no FEAT_LSE: ")
    assert len(replaced) == (cpu in ARMV8_0), f"{cpu}: {replaced} (log: {result.path / 'console.log'})"
    barriers = [line for line in said(result, "") if "PAR_EL1 put between barriers" in line]
    assert len(barriers) == (cpu == "cortex-a55"), f"{cpu}: {barriers}"  # a Cortex-A77 may come up beside it


def add(cpu: str) -> None:
    def test() -> None:
        check(cpu)
    globals()[f"test_{cpu}"] = limit(60)(test)


for _cpu in ERRATA:
    add(_cpu)
