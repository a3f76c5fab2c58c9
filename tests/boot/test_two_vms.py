"""Two VMs on one physical SMMU: Linux reads and writes its disk while its neighbour maps, unmaps and misbehaves."""
import codecs

from boot import Machine, boot, limit, payload
from guests import BOOT, TESTDEV, expect_handled, expect_ok, root_port, weir_lines
from run_linux import COPY, COPY_FROM, COPY_TO, KERNEL, initramfs

DISK = "disk1"


@limit(260)
def test_shared_smmu():
    machine = Machine("two-vms", cpus=2, memory="2G", devices=[root_port(1, smmu=1), root_port(3, smmu=1)])
    path = machine.disk(DISK, "rp1")
    machine.devices.append(f"{TESTDEV},bus=rp3")
    original = path.read_bytes()
    files = {"Image": KERNEL, "initramfs.cpio": initramfs({DISK: path}), "nested.bin": payload("nested")}
    result = boot(machine, BOOT / "two-vms/manifest.dts", files, limit=240)

    for line in result.lines:
        assert "init: FAIL" not in line, line
    expect_ok(result, "nested")
    expect_handled(result)
    for step in (f"{DISK} iommu OK", f"{DISK} read OK", f"{DISK} write OK", "done OK"):
        assert f"init: {step}" in result.log, f"Linux did not say: init: {step}"
    # With a single disk the guest copies within it.
    expected = bytearray(original)
    copied = original[COPY_FROM:COPY_FROM + COPY].decode("latin-1")
    expected[COPY_TO:COPY_TO + COPY] = codecs.encode(copied, "rot13").encode("latin-1")
    assert path.read_bytes() == expected, f"{DISK} does not hold what Linux says to have written, and nothing else"
    # Events start the clock for late work, and Linux goes on for long after them; test_linux has none, and needs no tick.
    assert weir_lines(result, "ticks of the clock"), "the clock did not run"
    violations = weir_lines(result, "violation")
    assert any("testdev" in line for line in violations), "Weir did not report the neighbour's violations"
    assert not any(DISK in line for line in violations), "Weir reports violations by Linux' disk"
