"""Memory that moves: given back, asked for again, shared and lent to another VM, while devices and EL2 use it."""
from boot import Machine, boot, limit, payload
from guests import BOOT, TESTDEV, expect_handled, expect_ok, root_port, said, weir_lines


def two_vms(name: str, cpu: str) -> None:
    machine = Machine(name, cpus=3, cpu=cpu, memory="1G", devices=[root_port(1, smmu=1), f"{TESTDEV},bus=rp1"])
    result = boot(machine, BOOT / "memory/manifest.dts", {"memory.bin": payload("memory")}, limit=100)
    expect_ok(result, "memory")
    assert said(result, "memory").count("OK") == 2, "one of the two VMs has no verdict"
    expect_handled(result, allowed=r"(data abort|external abort|Data abort)")  # what is provoked
    assert weir_lines(result, "violation"), "DMA into what was given back is not reported"


@limit(120)
def test_two_vms():
    two_vms("memory", "max")


# Without FEAT_HAFDBS (test_cpus: a64fx and the Armv8.0 CPUs) a store to a page of the dirty log faults, and Weir notes it.
