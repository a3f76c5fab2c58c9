"""The virtual GIC on the hardware's list registers."""
from boot import limit
from guests import boot_payload, expect_handled, expect_ok


@limit(45)
def test_gic():
    """More interrupts pending and active than there are list registers, split EOI, another vCPU's, two groups, the timer."""
    result = boot_payload("gic", cpus=2, time=30)
    expect_ok(result, "gic")
    expect_handled(result)
