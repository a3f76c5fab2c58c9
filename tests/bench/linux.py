"""What a 4 KiB read costs in Linux: without Weir, under Weir with a strict vSMMU, and under Weir behind stage 2 alone."""
from __future__ import annotations

import re
import statistics
from dataclasses import dataclass

from machines import IMAGE, REPOSITORY, Failure, plugin, windows
from qemu import MIB, Machine, Result, compile_dts, cpio

KERNEL = REPOSITORY / "build/kernel/Image"
PROGRAM = REPOSITORY / "build/bench/read4k"
STRICT, PASSTHROUGH = "iommu.strict=1 iommu.passthrough=0", "iommu.passthrough=1"
ARGUMENTS = "console=ttyAMA0 panic=-1 quiet"
MEMORY = 1 << 30
LATENCY_NS = 500_000


@dataclass
class Load:
    reads: int                    # in each window
    ticks: list[int]              # of the virtual counter, idle time included, by window
    counted: list[dict[str, int]]  # instructions while the reads ran
    result: Result

    def windows(self, kind: str = "") -> list[float]:
        """Instructions of that kind for each read, window by window, or of EL2 and the kernel. The program's own dozen is not
        told from those of the process that spins."""
        kinds = [kind] if kind else ["el2", "kernel"]
        return [sum(window[k] for k in kinds) / self.reads for window in self.counted]

    def per_read(self, kind: str = "") -> float:
        return statistics.median(self.windows(kind))

    def spread(self) -> float:
        """How far the windows are apart, as a fraction of the least."""
        return max(self.windows()) / min(self.windows()) - 1

    def vsmmu(self) -> tuple[int, int]:
        """Exits and SYNCs of the vSMMU over the whole run, as Weir's summary says."""
        line = next((line for line in self.result.lines if re.search(r"weir: vm linux vsmmu \S+ exits", line)), "")
        if not (match := re.search(r"exits (\d+); commands:.*? SYNC (\d+);", line)):
            raise Failure(f"no summary of the vSMMU (log: {self.result.path / 'console.log'})")
        return int(match[1]), int(match[2])


def load(name: str, arguments: str, reads: int, weir: bool, properties: str = "", limit: float = 900) -> Load:
    """One CPU, three SMMUs, the disk behind the first; with and without Weir the same machine."""
    machine = Machine(f"bench/linux-{name}", smmus=3, cpus=1, memory="2G" if weir else "1G", icount=True)
    # A disk takes its time, in which the guest goes to sleep, as it would on any real machine. With a disk that answers from
    # the host's memory it would sleep or not as the host's scheduler pleases, which is thousands of instructions either way.
    machine.extra += ["-blockdev", f"null-co,node-name=disk1,size={64 * MIB},latency-ns={LATENCY_NS},read-zeroes=on"]
    machine.devices.append("nvme,serial=disk1,drive=disk1,bus=pcie.0,addr=0x10,dbcs=off")
    machine.extra += plugin(machine)
    arguments = f"{ARGUMENTS} {arguments} reads={reads}"
    initramfs = cpio({"init": PROGRAM.read_bytes()}, executable=True)
    if weir:
        manifest = f"""/dts-v1/;
/ {{
	compatible = "weir,manifest-v1";
	exit = "semihosting";
	vms {{ linux {{
		kernel = "Image";
		initrd = "initramfs.cpio";
		bootargs = "{arguments}";
		cpus = <1>;
		memory = <0x0 {MEMORY:#x}>;
		vsmmus {{ v: v {{ backing = "smmuv3@c000000"; {properties} }}; }};
		devices {{ disk1 {{ pci = "00:10.0"; vsmmu = <&v>; }}; }};
	}}; }};
}};
"""
        initrd = machine.initrd({"manifest.dtb": compile_dts(manifest, machine.path / "manifest.dtb"), "Image": KERNEL,
                                 "initramfs.cpio": initramfs})
        result = machine.run(IMAGE, initrd, limit=limit, echo=False)
    else:
        initrd = machine.path / "initramfs.cpio"
        initrd.write_bytes(initramfs)
        result = machine.run(KERNEL, initrd, arguments, limit=limit, echo=False)
    log = machine.path / "console.log"
    said = re.findall(r"bench: reads (\d+) ticks (\d+)", result.log)
    if not said or "bench: OK" not in result.log or result.failure():
        raise Failure(f"{name}: {result.failure() or 'the guest did not say OK'} (log: {log})")
    seen = windows(machine)
    if len(seen) != len(said):
        raise Failure(f"{name}: {len(seen)} windows (log: {log})")
    return Load(int(said[0][0]), [int(ticks) for _, ticks in said], seen, result)
