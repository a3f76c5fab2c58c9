#!/usr/bin/env python3
"""Boots Linux in Weir on a machine with three SMMUs, two of which carry a disk of the guest's, and checks what it did.

The guest (tests/guests/linux/init) reads both disks and writes to both; the host checks the hash and the data.
--shell: a shell in the guest instead. --direct: the kernel without Weir, with the disks on the first SMMU.
--kernel: another kernel than the one of tools/sources.
"""
from __future__ import annotations

import argparse
import codecs
import hashlib
import sys
from pathlib import Path

import unzboot
from qemu import MIB, REPOSITORY, Machine, Result, compile_dts

DISKS = ("disk1", "disk2")
READ = 16 * MIB  # what the guest reads and compares, from offset 0
COPY, COPY_FROM, COPY_TO = 4 * MIB, 4 * MIB, 32 * MIB  # what it copies to the other disk, in rot13
KERNEL = REPOSITORY / "build/kernel/Image"
INITRAMFS = REPOSITORY / "build/guests/initramfs.cpio"


def rot13(data: bytes) -> bytes:
    return codecs.encode(data.decode("latin-1"), "rot13").encode("latin-1")


def default_machine(name: str, direct: bool = False, **options) -> tuple[Machine, dict[str, Path]]:
    """Three SMMUs, and one disk behind a root port of each pxb."""
    machine = Machine(name, virtualization=not direct, **options)
    if direct:
        return machine, {disk: machine.disk(disk, "pcie.0") for disk in DISKS}
    # In different slots: root ports in slot 0 of two pxb buses would share one interrupt line.
    machine.devices += ["pcie-root-port,id=rp1,bus=pcie.1,addr=1,chassis=1,slot=1",
                        "pcie-root-port,id=rp2,bus=pcie.2,addr=2,chassis=2,slot=2"]
    return machine, {disk: machine.disk(disk, f"rp{n}") for n, disk in enumerate(DISKS, 1)}


def initramfs(disks: dict[str, Path]) -> bytes:
    """The guest's initramfs with etc/expect: for each disk its serial number and the SHA-256 of what is to be read."""
    from qemu import cpio
    expect = "".join(f"{disk} {hashlib.sha256(path.read_bytes()[:READ]).hexdigest()}\n" for disk, path in disks.items())
    return INITRAMFS.read_bytes() + cpio({"etc/expect": expect.encode()})


def manifest(machine: Machine, source: Path, extra: str = "") -> Path:
    return compile_dts(source.read_text() + extra, machine.path / "manifest.dtb")


def check(result: Result, disks: dict[str, Path], original: dict[str, bytes]) -> str | None:
    """The reason why the run failed, in one line, or nothing."""
    said = [line[line.index("init: "):] for line in result.lines if "init: " in line]
    for line in said:
        if line.startswith("init: FAIL"):
            return line
    if reason := result.failure():
        return reason
    for disk in disks:
        for step in ("iommu", "read", "write"):
            if not any(line.startswith(f"init: {disk} {step} OK") for line in said):
                return f"the guest did not say: init: {disk} {step} OK"
    if "init: done OK" not in said:
        return "the guest did not say: init: done OK"
    for disk, path in disks.items():
        other = next(name for name in disks if name != disk)
        data, expected = path.read_bytes(), bytearray(original[disk])
        expected[COPY_TO:COPY_TO + COPY] = rot13(original[other][COPY_FROM:COPY_FROM + COPY])
        if data[COPY_TO:COPY_TO + COPY] != expected[COPY_TO:COPY_TO + COPY]:
            return f"{disk} does not hold at {COPY_TO // MIB} MiB what the guest says to have written"
        if data != expected:
            return f"{disk} was written where it should not have been"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shell", action="store_true")
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--kernel", type=Path, default=KERNEL, help="an Image, or a vmlinuz of it (gzip, EFI zboot)")
    parser.add_argument("--manifest", type=Path, default=REPOSITORY / "tests/boot/linux/manifest.dts")
    parser.add_argument("--limit", type=float, default=240, help="seconds")
    arguments = parser.parse_args()

    machine, disks = default_machine("direct" if arguments.direct else "shell" if arguments.shell else "linux",
                                     arguments.direct)
    original = {disk: path.read_bytes() for disk, path in disks.items()}
    kernel = machine.path / "Image"
    kernel.write_bytes(unzboot.image(arguments.kernel))
    append = ""
    if arguments.direct:
        image = kernel
        append = "console=ttyAMA0 iommu.strict=1 iommu.passthrough=0 panic=-1" + (" weir.shell" if arguments.shell else "")
        initrd = machine.path / "initramfs.cpio"
        initrd.write_bytes(initramfs(disks))
    else:
        image = REPOSITORY / "build/Image"
        extra = ""
        if arguments.shell:
            import subprocess
            plain = manifest(machine, arguments.manifest)
            bootargs = subprocess.run(["fdtget", str(plain), "/vms/linux", "bootargs"], stdout=subprocess.PIPE, text=True,
                                      check=True).stdout.strip()
            extra = f'/ {{ vms {{ linux {{ bootargs = "{bootargs} weir.shell"; raw-console; }}; }}; }};\n'
        initrd = machine.initrd({"manifest.dtb": manifest(machine, arguments.manifest, extra), "Image": kernel,
                                 "initramfs.cpio": initramfs(disks)})
    if arguments.shell:
        print("ctrl-A x ends QEMU; ctrl-] r shows Weir's own lines again")
        return machine.interactive(image, initrd, append)
    result = machine.run(image, initrd, append, limit=arguments.limit)
    reason = check(result, disks, original)
    where = (machine.path / "console.log").relative_to(REPOSITORY)
    print(f"run: FAIL: {reason} (log: {where})" if reason else f"run: OK in {result.seconds:.0f} s (log: {where})")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
