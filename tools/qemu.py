#!/usr/bin/env python3
"""QEMU machines with several SMMUs: their devicetree, disks, initrd, and running them with a log and a time limit.

A scenario is a folder below build/run/. SMMU 0 serves pcie.0; SMMU n (n > 0) serves the pxb "pcie.n", whose bus number
is 8 * n. StreamID = requester ID.

    machine = Machine("name", devices=["pcie-root-port,id=rp1,bus=pcie.1,addr=1,chassis=1,slot=1", ...])
    machine.disk("disk1", bus="rp1")
    result = machine.run(image="build/Image", initrd=machine.initrd({"manifest.dtb": ..., "Image": ...}), limit=120)

QEMU itself starts the image, or firmware does (`firmware`, built by `make firmware`): "u-boot", or "tf-a", which is TF-A
at EL3 with U-Boot behind it, or "tf-a-closed", which opens less. U-Boot finds image, initrd and command line in fw_cfg,
where -kernel, -initrd and -append put them, and boots them as it would from a disk. The devicetree is the same corrected
one: TF-A and U-Boot add to it.

tools/qemu.py [--smmus N] FILE.dtb writes the devicetree of such a machine.
"""
from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

REPOSITORY = Path(__file__).resolve().parent.parent
RUN = REPOSITORY / "build" / "run"
QEMU = "qemu-system-aarch64"
MIB = 1 << 20
ECHO = True  # whether a run's console is shown unless told otherwise
FIRMWARE = {name: REPOSITORY / f"build/firmware/{name}.bin" for name in ("u-boot", "tf-a", "tf-a-closed")}
# What TF-A prints when EL3 gives up: nothing goes on after it.
EL3_CRASH = re.compile(r"Unhandled (Exception|External Abort|Interrupt Exception) in EL3|PANIC (in|at) EL3|PANIC at PC")
SMMU_BASE, SMMU_SIZE, SMMU_SPI = 0x0C000000, 0x20000, 112
BUSES_PER_PXB = 8


def compile_dts(text: str, output: Path) -> Path:
    """Compiles the text of a .dts to `output`."""
    done = subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(output), "-"], input=text, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"dtc: {output.name}: {done.stderr.strip()}")
    return output


def decompile_dtb(path: Path) -> str:
    return subprocess.run(["dtc", "-q", "-I", "dtb", "-O", "dts", str(path)], stdout=subprocess.PIPE, text=True,
                          check=True).stdout


def cpio(files: dict[str, bytes], executable: bool = False) -> bytes:
    """A cpio archive (newc) of the files and the folders that they are in."""
    out = bytearray()

    def entry(number: int, name: str, mode: int, data: bytes) -> None:
        encoded = name.encode() + b"\0"
        numbers = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        out.extend(b"070701" + b"".join(b"%08X" % n for n in numbers) + encoded)
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(data)
        out.extend(b"\0" * (-len(out) % 4))

    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    count = 0
    for count, name in enumerate(sorted(folders), 1):
        entry(count, name, 0o40755, b"")
    for number, (name, data) in enumerate(files.items(), count + 1):
        entry(number, name, 0o100755 if executable else 0o100644, data)
    entry(0, "TRAILER!!!", 0, b"")
    out.extend(b"\0" * (-len(out) % 512))
    return bytes(out)


def random_bytes(seed: str, size: int) -> bytes:
    """Content that looks random, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


@dataclass
class Result:
    status: int | None  # QEMU's exit status; None: it ran into the time limit
    log: str
    seconds: float
    path: Path

    @property
    def lines(self) -> list[str]:
        return self.log.replace("\r", "").split("\n")

    def el3_crash(self) -> str | None:
        """What TF-A said if EL3 gave up."""
        crash = EL3_CRASH.search(self.log)
        return f"the run ended in EL3: {crash[0]}" if crash else None

    def failure(self) -> str | None:
        """What is wrong with the run whatever was run: a reason in one line, or nothing."""
        if crash := self.el3_crash():
            return crash
        for line in self.lines:
            if line.startswith(("weir: unhandled", "weir: panic")):
                return line
        if self.status is None:
            return f"time limit of the run reached after {self.seconds:.0f} s"
        if self.status != 0:
            return f"QEMU ended with status {self.status}"
        return None


class _Lock:
    """Keeps other processes from a scenario's folder for as long as a Machine of this one uses it."""

    def __init__(self, path: Path) -> None:
        self.file = open(path / ".lock", "w", encoding="ascii")  # pylint: disable=consider-using-with
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"[waiting: build/run/{path.relative_to(RUN)} is in use by another run]", flush=True)
            fcntl.flock(self.file, fcntl.LOCK_EX)


_locks: WeakValueDictionary[Path, _Lock] = WeakValueDictionary()


@dataclass
class Machine:
    name: str
    smmus: int = 3
    cpus: int = 4
    cpu: str = "max"
    memory: str = "2G"
    devices: list[str] = field(default_factory=list)
    icount: bool = False
    extra: list[str] = field(default_factory=list)  # further arguments of QEMU
    virtualization: bool = True
    stages: dict[int, str] = field(default_factory=dict)  # SMMUs that do not nest: "1" or "2"
    firmware: str = ""  # "": none; or a name of FIRMWARE
    tree: dict[str, str] = field(default_factory=dict)  # changes of the devicetree's source: regular expression, replacement

    def __post_init__(self) -> None:
        self.path = RUN / self.name
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _locks.get(self.path) or _Lock(self.path)
        _locks[self.path] = self._lock
        self.drives: list[str] = []

    def disk(self, serial: str, bus: str, size: int = 64 * MIB, options: str = "") -> Path:
        """An NVMe disk of pseudo-random content, which depends on the serial number alone."""
        path = self.path / f"{serial}.raw"
        path.write_bytes(random_bytes(serial, size))
        self.drives += ["-drive", f"file={path},if=none,id={serial},format=raw"]
        # With shadow doorbells QEMU leaves the pin asserted now and then after the last completion was taken, without Weir
        # too: Linux then gives the line up after 100,000 interrupts.
        self.devices.append(f"nvme,serial={serial},drive={serial},bus={bus},dbcs=off{options}")
        return path

    def root_buses(self) -> list[tuple[int, int]]:
        """(first bus, number of buses) of each SMMU's root bus."""
        first = [BUSES_PER_PXB * n for n in range(self.smmus)] + [256]
        return [(a, b - a) for a, b in zip(first, first[1:])]

    def arguments(self, machine: str = "") -> list[str]:
        options = f"virt,virtualization={'on' if self.virtualization else 'off'},gic-version=3" + machine
        if self.icount:  # what is random in the devicetree would be in the figures
            options += ",dtb-randomness=off"
        if self.firmware.startswith("tf-a"):
            options += ",secure=on"
        arguments = [QEMU, "-machine", options, "-cpu", self.cpu, "-smp", str(self.cpus), "-m", self.memory,
                     "-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot",
                     "-semihosting-config", "enable=on,target=native"]
        if self.icount:
            arguments += ["-icount", "shift=0"]
        for n in range(self.smmus):
            if n > 0:
                arguments += ["-device", f"pxb-pcie,id=pcie.{n},bus_nr={BUSES_PER_PXB * n},bus=pcie.0"]
            arguments += ["-device", f"arm-smmuv3,primary-bus=pcie.{n},id=smmu{n},stage={self.stages.get(n, 'nested')}"]
        arguments += self.drives
        for device in self.devices:
            arguments += ["-device", device]
        return arguments + self.extra

    def dtb(self) -> Path:
        """QEMU's own devicetree, completed by the SMMUs that it leaves out: what a board's firmware would hand over.
        Dumped without -bios, which changes what QEMU leaves out."""
        raw, complete = self.path / "qemu.dtb", self.path / "machine.dtb"
        done = subprocess.run(self.arguments(f",dumpdtb={raw}"), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.name}: QEMU does not start: {done.stderr.strip()}")
        text = decompile_dtb(raw)
        if self.smmus > 1:
            text += self._further_smmus(text)
        for pattern, replacement in self.tree.items():
            text, count = re.subn(pattern, replacement, text)
            if count == 0:
                raise SystemExit(f"{self.name}: QEMU's devicetree has no {pattern}")
        return compile_dts(text, complete)

    def _further_smmus(self, text: str) -> str:
        phandles = [int(p, 16) for p in re.findall(r"phandle = <0x([0-9a-f]+)>", text)]
        first = re.search(r"iommu-map = <0x0+ 0x([0-9a-f]+) ", text)
        bridge = re.search(r"^\t(pcie@[0-9a-f]+) \{", text, re.MULTILINE)
        if not first or not bridge:
            raise SystemExit(f"{self.name}: QEMU's devicetree has no iommu-map to complete")
        nodes, targets = "", [int(first[1], 16)]
        for n in range(1, self.smmus):
            base, spi = SMMU_BASE + n * SMMU_SIZE, SMMU_SPI + 4 * n
            targets.append(max(phandles) + n)
            interrupts = " ".join(f"0 {spi + i} 1" for i in range(4))
            nodes += f"""
	smmuv3@{base:x} {{
		compatible = "arm,smmu-v3";
		reg = <0x0 {base:#x} 0x0 {SMMU_SIZE:#x}>;
		interrupts = <{interrupts}>;
		interrupt-names = "eventq", "priq", "cmdq-sync", "gerror";
		dma-coherent;
		#iommu-cells = <1>;
		phandle = <{targets[n]:#x}>;
	}};
"""
        cells = "".join(f"<{bus << 8:#x} {targets[n]:#x} {bus << 8:#x} {count << 8:#x}>, "
                        for n, (bus, count) in enumerate(self.root_buses())).removesuffix(", ")
        return f"\n/ {{\n{nodes}\n\t{bridge[1]} {{\n\t\tiommu-map = {cells};\n\t}};\n}};\n"

    def initrd(self, files: dict[str, bytes | Path]) -> Path:
        """manifest.dtb and the files that it names, as Weir takes them."""
        path = self.path / "initrd.cpio"
        path.write_bytes(cpio({name: data.read_bytes() if isinstance(data, Path) else data
                               for name, data in files.items()}))
        return path

    def command(self, image: str | Path, initrd: Path | None, append: str = "") -> list[str]:
        arguments = self.arguments() + ["-kernel", str(image), "-dtb", str(self.dtb())]
        if self.firmware:
            arguments += ["-bios", str(FIRMWARE[self.firmware])]
        if initrd:
            arguments += ["-initrd", str(initrd)]
        if append:
            arguments += ["-append", append]
        return arguments

    def run(self, image: str | Path, initrd: Path | None = None, append: str = "", limit: float = 60,
            echo: bool | None = None, replies: list[tuple[str, str]] | None = None, until: str | None = None) -> Result:
        """Runs to the end, the time limit, or a line that matches the regular expression `until` (then status 0).

        `replies`: (regular expression, text): when the console shows the first, the second is typed; each once, in order.
        """
        command = self.command(image, initrd, append) + ["-serial", "stdio"]
        (self.path / "command").write_text(" ".join(command) + "\n")
        log, replies, start, status = bytearray(), list(replies or []), time.monotonic(), None
        seen = 0  # how much of the log earlier replies have matched
        with open(self.path / "console.log", "wb") as file, subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=REPOSITORY) as qemu:
            assert qemu.stdin and qemu.stdout
            waiter = selectors.DefaultSelector()
            waiter.register(qemu.stdout, selectors.EVENT_READ)
            while True:
                left = start + limit - time.monotonic()
                data = os.read(qemu.stdout.fileno(), 65536) if left > 0 and waiter.select(min(left, 1)) else None
                if data:
                    log += data
                    file.write(data)
                    file.flush()
                    if ECHO if echo is None else echo:
                        sys.stdout.buffer.write(data)
                        sys.stdout.flush()
                    while replies and (match := re.compile(replies[0][0].encode()).search(log, seen)):
                        seen = match.end()
                        qemu.stdin.write(replies.pop(0)[1].encode())
                        qemu.stdin.flush()
                    if until and re.search(until.encode(), log):
                        status = 0
                    if EL3_CRASH.search(log[-4096:].decode(errors="replace")):
                        limit = min(limit, time.monotonic() - start + 2)  # the rest of the report, and no more
                elif data == b"":  # QEMU closed its end
                    status = qemu.wait()
                if status is not None or left <= 0:
                    break
            if qemu.poll() is None:
                qemu.terminate()
                try:
                    qemu.wait(5)
                except subprocess.TimeoutExpired:
                    qemu.kill()
        if status is None:
            with open(self.path / "console.log", "ab") as file:
                file.write(b"\n[stopped at the time limit]\n")
        return Result(status, log.decode(errors="replace"), time.monotonic() - start, self.path)

    def interactive(self, image: str | Path, initrd: Path | None = None, append: str = "") -> int:
        """Runs with the terminal connected: every key, ctrl-C too, goes to the machine; ctrl-A x ends it."""
        log = self.path / "console.log"
        command = self.command(image, initrd, append)
        command[command.index("-monitor"):command.index("-monitor") + 2] = []
        command += ["-chardev", f"stdio,id=console,mux=on,signal=off,logfile={log}", "-serial", "chardev:console",
                    "-mon", "chardev=console"]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the devicetree of a machine with several SMMUs.")
    parser.add_argument("--smmus", type=int, default=3)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    machine = Machine("devicetree", smmus=arguments.smmus)
    arguments.output.write_bytes(machine.dtb().read_bytes())


if __name__ == "__main__":
    main()
