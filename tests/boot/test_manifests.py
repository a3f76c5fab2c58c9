"""The manifests in this repository, checked on the host as their authors would: build/host/manifest-check."""
from __future__ import annotations

import subprocess
from pathlib import Path

from boot import REPOSITORY, Machine, compile_dts, limit, needs
from run_linux import INITRAMFS, KERNEL

CHECK = REPOSITORY / "build/host/manifest-check"


def check(name: str, manifest: Path, dtb: Path | None = None) -> str:
    """What manifest-check says of the manifest, for a machine with that devicetree (none: QEMU's with three SMMUs)."""
    machine = Machine(f"manifests/{name}")
    blob = compile_dts(manifest.read_text(), machine.path / "manifest.dtb")
    initrd = machine.initrd({"manifest.dtb": blob, "Image": KERNEL, "initramfs.cpio": INITRAMFS})
    done = subprocess.run([CHECK, "--dtb", dtb or machine.dtb(), initrd], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{manifest.relative_to(REPOSITORY)}: {done.stderr.strip()}"
    return done.stdout


@needs("manifest-check")
@limit(60)
def test_default():
    assert "vSMMU vsmmu0: 2 SMMUs, strict invalidation" in check("default", REPOSITORY / "tests/boot/linux/manifest.dts")


@needs("manifest-check")
@limit(60)
def test_checker_runs_everywhere():
    """It needs no library and no loader: what was built in the toolchain starts outside of it."""
    subprocess.run(["make", "-s", str(CHECK.relative_to(REPOSITORY))], cwd=REPOSITORY, check=True)
    headers = subprocess.run(["llvm-readelf-19", "--program-headers", CHECK], capture_output=True, text=True, check=True).stdout
    for kind in ("INTERP", "DYNAMIC"):
        assert kind not in headers, f"{CHECK.relative_to(REPOSITORY)} is dynamically linked ({kind})"
    machine = Machine("manifests/everywhere")
    (machine.path / "empty").mkdir(exist_ok=True)
    done = subprocess.run([CHECK, "empty"], cwd=machine.path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"status {done.returncode}: {done.stderr.strip()}"
    assert done.stderr == "manifest.dtb: no such file in the initrd; expected the compiled manifest\n", done.stderr


@limit(60)
def test_fvp():
    dtb = compile_dts((REPOSITORY / "fvp/base-revc.dts").read_text(), Machine("manifests/fvp").path / "machine.dtb")
    assert "00:01.0 disk: PCI 00:1f.0" in check("fvp", REPOSITORY / "fvp/manifest.dts", dtb)
