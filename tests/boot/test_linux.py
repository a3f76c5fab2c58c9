"""Debian's Linux with two disks behind two physical SMMUs: what `make run` does."""
from boot import REPOSITORY, IMAGE, limit
from run_linux import KERNEL, check, default_machine, initramfs, manifest


@limit(300)
def test_disks():
    machine, disks = default_machine("boot-linux")
    original = {disk: path.read_bytes() for disk, path in disks.items()}
    initrd = machine.initrd({"manifest.dtb": manifest(machine, REPOSITORY / "tests/boot/linux/manifest.dts"),
                             "Image": KERNEL, "initramfs.cpio": initramfs(disks)})
    reason = check(machine.run(IMAGE, initrd, limit=240), disks, original)
    assert reason is None, f"{reason} (log: {machine.path / 'console.log'})"
