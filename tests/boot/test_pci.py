"""PCI topologies unlike that of the default machine."""
from __future__ import annotations

from boot import Machine, boot, limit, payload
from guests import BOOT, TESTDEV, changed, expect_ok, root_port

PCI_BRIDGE = "pcie-pci-bridge,id=pb1,bus=rp1"


def machine(name: str) -> Machine:
    """The machine of `nested`, but that the first device is behind a conventional bridge, with another next to it."""
    return Machine(name, cpus=2, memory="1G", devices=[
        root_port(1, smmu=1), PCI_BRIDGE, f"{TESTDEV},bus=pb1,addr=1", f"{TESTDEV},bus=pb1,addr=2",
        root_port(2, smmu=2), f"{TESTDEV},bus=rp2", root_port(3, smmu=2), f"{TESTDEV},bus=rp3"])


@limit(120)
def test_behind_a_conventional_bridge():
    """DMA arrives under the bridge's Requester ID, and is the VM's nevertheless: stage 1, invalidations and all."""
    manifest = changed(BOOT / "nested/manifest.dts", {'"08:01.0/00.0"': '"08:01.0/00.0/01.0"'})
    expect_ok(boot(machine("pci/behind"), manifest, {"nested.bin": payload("nested")}, limit=100), "nested")


TWO_VMS = """/dts-v1/;
/ {
	compatible = "weir,manifest-v1";
	exit = "semihosting";
	vms {
		a { %(vm)s devices { one { pci = "08:01.0/00.0/01.0"; vsmmu = <&va>; }; }; };
		b { %(vm)s devices { two { pci = "08:01.0/00.0/02.0"; vsmmu = <&vb>; }; }; };
	};
};
"""
VM = """kernel = "nested.bin"; entry-offset = <0x0 0x0>; cpus = <1>; memory = <0x0 0x4000000>;
	vsmmus { v%s: v { backing = "smmuv3@c020000"; }; };"""


@limit(60)
def test_two_vms_behind_one_bridge():
    """The bridge's Requester ID cannot be two VMs': refused, by the name of the bridge."""
    text = TWO_VMS.replace("%(vm)s", VM % "a", 1).replace("%(vm)s", VM % "b", 1)
    result = boot(machine("pci/two-vms"), text, {"nested.bin": payload("nested")}, limit=50)
    assert result.status not in (None, 0), f"status {result.status}"
    line = ('/vms/a/devices/one: pci = "08:01.0/00.0/01.0": its DMA may arrive under a Requester ID of the bridge '
            '08:01.0/00.0, as does that of /vms/b/devices/two; expected one VM for all that is behind the bridge')
    assert f"weir: {line}" in result.log.replace("\r", ""), \
        f"not refused as expected (log: {result.path / 'console.log'})"


@limit(60)
def test_host_bridges_are_not_given():
    manifest = changed(BOOT / "nested/manifest.dts", {'"08:01.0/00.0"': '"00:00.0"'})
    result = boot(machine("pci/host-bridge"), manifest, {"nested.bin": payload("nested")}, limit=50)
    assert result.status not in (None, 0), f"status {result.status}"
    offered = "expected one of 08:01.0/00.0/01.0, 08:01.0/00.0/02.0, 10:02.0/00.0, 10:03.0/00.0"
    assert f'pci = "00:00.0": this is a host bridge, or another that belongs to the machine; {offered}' in result.log, \
        f"not refused as expected (log: {result.path / 'console.log'})"


@limit(60)
def test_io_bar():
    """A serial port on a PCI card: its registers are in I/O space."""
    card = Machine("pci/io", cpus=1, memory="512M", devices=["pci-serial,bus=pcie.0,addr=5"])
    expect_ok(boot(card, BOOT / "pci/manifest.dts", {"pci.bin": payload("pci")}, limit=50), "pci")


@limit(60)
def test_a_bar_beyond_16_tib():
    """A BAR above 2^44 is there."""
    card = Machine("pci/high", cpus=1, memory="512M", devices=["virtio-rng-pci,bus=pcie.0,addr=5,disable-legacy=on"],
                   extra=["-machine", "highmem-mmio-size=32T"])
    expect_ok(boot(card, BOOT / "pci/manifest.dts", {"pci.bin": payload("pci")}, limit=50), "pci")
