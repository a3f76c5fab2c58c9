"""Bare-metal payloads with a VM of their own."""
import re
import time

from boot import limit
from guests import boot_payload, expect_handled, expect_ok, said


@limit(45)
def test_psci():
    """A second vCPU on and off, affinity information, wrong arguments."""
    result = boot_payload("psci", cpus=2, time=30)
    expect_ok(result, "psci")
    expect_handled(result)


@limit(45)
def test_smccc():
    """Every call of PSCI, SMCCC and Weir, and unknown ones, by HVC and SMC: no register changes but those of the results."""
    result = boot_payload("smccc", time=30)
    expect_ok(result, "smccc")
    expect_handled(result)


@limit(45)
def test_mmio():
    """Device accesses by instructions that give no syndrome: pairs, writeback, SIMD registers."""
    result = boot_payload("mmio", time=30)
    expect_ok(result, "mmio")
    expect_handled(result, allowed="IPA 0x700000")  # where the payload looks for nothing
    clock = next((line for line in said(result, "mmio") if line.startswith("the time is ")), "the time is 0")
    assert abs(int(clock.split()[-1]) - time.time()) < 600, f"the guest's clock is wrong: {clock}"


@limit(45)
def test_one_cpu():
    """On a machine with one CPU, whose devicetree does not say how to start it."""
    expect_ok(boot_payload("mmio", cpus=1, time=30), "mmio")


@limit(150)
def test_vectors():
    """All FP, SIMD, SVE and SME registers, thread pointers and keys stay as they are over a million exits."""
    result = boot_payload("vectors", time=120)
    expect_ok(result, "vectors")
    expect_handled(result)
    assert any(re.match(r"SVE [1-9]\d+ bits, SME [1-9]\d+ bits, PAuth 1", line) for line in said(result, "vectors")), \
        "the guest does not have all the registers that the machine has"


@limit(120)
def test_garbage():
    """Garbage to every register, system register and call: Weir and the guest live. Weir may say what it refused."""
    expect_ok(boot_payload("garbage", time=90), "garbage")


@limit(45)
def test_signals():
    """CMD_SYNC with SEV, interrupt and MSI; events and errors by wire, by MSI to memory and by MSI as an SPI."""
    result = boot_payload("signals", cpus=2, time=30)
    expect_ok(result, "signals")
    expect_handled(result)


@limit(45)
def test_features():
    """What the ID registers promise works, and what they hide is UNDEFINED."""
    expect_ok(boot_payload("features", time=30), "features")
