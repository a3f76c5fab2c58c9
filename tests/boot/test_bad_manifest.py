"""Manifests that Weir must refuse at EL2: one line with the manifest path, the value and what was expected, then a stop
with a status other than 0."""
from __future__ import annotations

import re

from boot import IMAGE, REPOSITORY, Machine, compile_dts, limit

MANIFEST = REPOSITORY / "tests/boot/linux/manifest.dts"
# The header of an arm64 Image: all of a kernel that is looked at.
KERNEL = (b"\0" * 8 + (0).to_bytes(8, "little") + (0x100000).to_bytes(8, "little") + (0xA).to_bytes(8, "little") +
          b"\0" * 24 + b"ARM\x64" + b"\0" * 4)


def refuse(name: str, line: str, change: tuple[str, str] | None = None, blob: bytes | None = None) -> None:
    """The default manifest with a change, or the blob (empty: there is none), is refused by a line that matches."""
    machine = Machine(f"bad-manifest/{name}", cpus=4, memory="2G", devices=[
        "pcie-root-port,id=rp1,bus=pcie.1,addr=1,chassis=1,slot=1", "pcie-root-port,id=rp2,bus=pcie.2,addr=2,chassis=2,slot=2",
        "iommu-testdev,bus=rp1", "iommu-testdev,bus=rp2"])
    files = {"Image": KERNEL, "initramfs.cpio": b"\0" * 512}
    if blob is None:
        source = MANIFEST.read_text()
        assert change and change[0] in source, f"{MANIFEST} has changed"
        blob = compile_dts(source.replace(*change), machine.path / "manifest.dtb").read_bytes()
    if blob:
        files["manifest.dtb"] = blob
    # How to stop is in the manifest, which may be what is missing: the command line says it, too.
    result = machine.run(IMAGE, machine.initrd(files), "weir.exit=semihosting", limit=20)
    where = f"(log: {result.path / 'console.log'})"
    assert result.status is not None, f"Weir does not stop {where}"
    assert result.status != 0, f"the status is 0 {where}"
    last = next((text for text in reversed(result.lines) if text.strip()), "nothing")
    matching = [text for text in result.lines if text.startswith("weir: ") and re.search(line, text)]
    assert len(matching) == 1, f"{len(matching)} lines match '{line}'; the last line is: {last} {where}"
    assert "panic" not in result.log, f"Weir panicked {where}"


@limit(30)
def test_missing():
    refuse("missing", r"manifest\.dtb: .*expected", blob=b"")


@limit(30)
def test_malformed():
    refuse("malformed", r"manifest\.dtb: .*expected", blob=b"\xd0\x0d\xfe\xed" + b"\xff" * 100)


@limit(30)
def test_foreign():
    refuse("foreign", r'compatible.*"other".*expected "weir,manifest-v1"',
           ('"weir,manifest-v1"', '"other"'))


@limit(30)
def test_absent_file():
    refuse("absent-file", r'/vms/linux.*kernel.*"Imago".*expected',
           ('kernel = "Image"', 'kernel = "Imago"'))


@limit(30)
def test_absent_device():
    refuse("absent-device", r'/vms/linux/devices/disk2.*pci.*"10:07.0/00.0".*expected one of .*08:01.0/00.0',
           ("10:02.0/00.0", "10:07.0/00.0"))


@limit(30)
def test_absent_smmu():
    refuse("absent-smmu", r"/vms/linux/vsmmus/vsmmu0.*backing.*smmuv3@dead.*expected",
           ("smmuv3@c040000", "smmuv3@dead"))


@limit(30)
def test_wrong_smmu():
    refuse("wrong-smmu", r'/vms/linux/devices/disk2.*pci.*"10:02.0/00.0".*expected',
           ('"smmuv3@c020000", "smmuv3@c040000"', '"smmuv3@c020000"'))


@limit(30)
def test_too_much_memory():
    refuse("too-much-memory", r"/vms/linux.*memory.*expected",
           ("0x40000000", "0x80000000"))


@limit(30)
def test_too_many_cpus():
    refuse("too-many-cpus", r"/vms/linux.*cpus.*9.*expected",
           ("cpus = <2>", "cpus = <9>"))


@limit(30)
def test_given_twice():
    refuse("given-twice", r'/vms/linux/devices/disk2.*pci.*"08:01.0/00.0".*/vms/linux/devices/disk1.*expected',
           ("10:02.0/00.0", "08:01.0/00.0"))


@limit(30)
def test_unknown_property():
    refuse("unknown-property", r"/vms/linux.*cpu.*expected",
           ("cpus = <2>", "cpus = <2>; cpu = <2>"))


@limit(30)
def test_promise_without_precision():
    refuse("promise-without-precision",
           r'/vms/linux/vsmmus/vsmmu0: no-global-pages = \(empty\): .*; expected invalidation = "precise"',
           ('"smmuv3@c040000";', '"smmuv3@c040000"; no-global-pages;'))


@limit(30)
def test_share_with_nobody():
    refuse("share-with-nobody", r'/vms/linux: share-with = "other": "other" is no VM of this manifest; expected ',
           ("cpus = <2>", 'cpus = <2>; memory-calls; share-with = "other"'))
