"""Memory that moves: given back, asked for again, shared and lent to another VM, while devices and EL2 use it."""
from boot import Machine, boot, limit, payload
from guests import BOOT, TESTDEV, expect_handled, expect_ok, root_port, said, weir_lines


@limit(120)
def test_two_vms():
    machine = Machine("memory", cpus=3, memory="1G", devices=[root_port(1, smmu=1), f"{TESTDEV},bus=rp1"])
    result = boot(machine, BOOT / "memory/manifest.dts", {"memory.bin": payload("memory")}, limit=100)
    expect_ok(result, "memory")
    assert said(result, "memory").count("OK") == 2, "one of the two VMs has no verdict"
    expect_handled(result, allowed=r"(data abort|external abort|Data abort)")  # what is provoked
    assert weir_lines(result, "violation"), "DMA into what was given back is not reported"
