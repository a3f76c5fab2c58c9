"""The machines and manifests of the measurements on bare metal (payload tests/guests/bench)."""
from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "tools"))

from qemu import BUSES_PER_PXB, SMMU_BASE, SMMU_SIZE, Machine, Result, compile_dts  # noqa: E402

IMAGE = REPOSITORY / "build/Image"
PLUGIN = REPOSITORY / "build/bench/count.so"
EL2_CODE = "ff0000000000-ff00ffffffff"  # hyp/boot/weir.lds
PAYLOAD = REPOSITORY / "build/guests/bench.bin"
TESTDEV = "iommu-testdev"


class Failure(Exception):
    """A measurement could not be made: the reason in one line."""


@dataclass
class Vm:
    instances: list[int]  # the SMMUs behind its vSMMU, one device on each
    bootargs: str = ""
    properties: str = ""  # of the vSMMU
    memory: int = 128 << 20
    devices: list[str] = field(default_factory=list)  # topology paths, instead of one on each instance
    memory_calls: bool = True


@dataclass
class Values:
    """What a payload measured: by key, the median, the least and the most of its samples, and its window; what was counted
    in each window (tests/bench/count.c); and Weir's own lines."""
    by_key: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    windows: list[dict[str, int]] = field(default_factory=list)
    boots: list[dict[str, int]] = field(default_factory=list)  # until the first instruction of each VM
    result: Result | None = None

    def __getitem__(self, key: str) -> int:
        if key not in self.by_key:
            raise Failure(f"the payload has not measured {key} (log: {self.log()})")
        return self.by_key[key][0]

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def counted(self, key: str) -> dict[str, int]:
        """What the last sample of `key` consisted of."""
        self[key]  # pylint: disable=pointless-statement
        return self.windows[self.by_key[key][3]]

    def all(self, pattern: str) -> list[str]:
        """What the pattern's group is in each of Weir's lines that has it; at least one."""
        found = [match[1] for line in self.result.lines if "weir: " in line and (match := re.search(pattern, line))]
        if not found:
            raise Failure(f"Weir does not say {pattern} (log: {self.log()})")
        return found

    def weir(self, pattern: str) -> re.Match:
        """The first line of Weir's that the pattern is found in."""
        for line in self.result.lines:
            if "weir: " in line and (match := re.search(pattern, line)):
                return match
        raise Failure(f"Weir does not say {pattern} (log: {self.log()})")

    def log(self) -> Path:
        return self.result.path / "console.log"


def device_at(smmu: int) -> str:
    """Topology path of an iommu-testdev: on the root bus of SMMU 0, behind a root port elsewhere."""
    return "00:10.0" if smmu == 0 else f"{smmu * BUSES_PER_PXB:02x}:01.0/00.0"


def machine(name: str, smmus: int, cpus: int = 1, memory: str = "1G", icount: bool = True, more: int = 0) -> Machine:
    """SMMUs with one iommu-testdev each, and `more` of them on SMMU 0, in slots 0x11 and up."""
    devices = [f"{TESTDEV},bus=pcie.0,addr={slot:#x}" for slot in range(0x11, 0x11 + more)]
    for n in range(smmus):
        if n == 0:
            devices.append(f"{TESTDEV},bus=pcie.0,addr=0x10")
        else:
            devices += [f"pcie-root-port,id=rp{n},bus=pcie.{n},addr=1,chassis={n},slot=1", f"{TESTDEV},bus=rp{n}"]
    return Machine(f"bench/{name}", smmus=smmus, cpus=cpus, memory=memory, devices=devices, icount=icount)


def manifest(vms: list[Vm]) -> str:
    nodes = ""
    for number, vm in enumerate(vms):
        backing = ", ".join(f'"smmuv3@{SMMU_BASE + n * SMMU_SIZE:x}"' for n in vm.instances)
        paths = vm.devices or [device_at(n) for n in vm.instances]
        devices = "".join(f"""
				dev{n} {{
					pci = "{path}";
					vsmmu = <&v{number}>;
				}};
""" for n, path in enumerate(paths))
        bootargs = f"devices={len(paths)} {vm.bootargs}".strip()
        nodes += f"""
		vm{number} {{
			kernel = "bench.bin";
			entry-offset = <0x0 0x0>;
			bootargs = "{bootargs}";
			cpus = <1>;
			{"memory-calls;" if vm.memory_calls else ""}
			memory = <{vm.memory >> 32:#x} {vm.memory & 0xffffffff:#x}>;
			vsmmus {{
				v{number}: v{number} {{
					backing = {backing};
					{vm.properties}
				}};
			}};
			devices {{{devices}
			}};
		}};
"""
    return f"""/dts-v1/;
/ {{
	compatible = "weir,manifest-v1";
	exit = "semihosting";
	vms {{{nodes}
	}};
}};
"""


def plugin(m: Machine) -> list[str]:
    """QEMU's arguments for a machine whose windows are counted."""
    return ["-plugin", f"{PLUGIN},el2={EL2_CODE},out={m.path / 'windows'}"]


def windows(m: Machine, word: str = "window") -> list[dict[str, int]]:
    """What the plugin wrote, in lines that begin with the word."""
    path = m.path / "windows"
    lines = [line for line in path.read_text().splitlines() if line.startswith(word)] if path.exists() else []
    return [{name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)} for line in lines]


def values_of(result: Result) -> Values:
    values = Values(result=result)
    for line in result.lines:
        if match := re.search(r"guest: bench: value (\S+) (\d+) (\d+) (\d+) (\d+)", line):
            values.by_key[match[1]] = tuple(int(match[i]) for i in (2, 3, 4, 5))
        if match := re.search(r"guest: bench: FAIL .*|weir: panic.*", line):
            raise Failure(f"{match[0].strip()} (log: {values.log()})")
    if reason := result.failure():
        last = next((line.strip() for line in reversed(result.lines) if line.strip()), "nothing")
        raise Failure(f"{reason}; the last line is: {last} (log: {values.log()})")
    if "guest: bench: OK" not in result.log:
        raise Failure(f"the payload gave no verdict (log: {values.log()})")
    return values


def measure(name: str, vms: list[Vm], smmus: int, limit: float = 120, counted: bool = False, until: str | None = None,
            cpus: int = 0, **options) -> Values:
    """Boots VMs with the payload; `counted`: with the plugin, so that counted() says more. `until`: as Machine.run has it."""
    m = machine(name, smmus, cpus=cpus or len(vms), **options)
    if counted:
        m.extra += plugin(m)
    initrd = m.initrd({"manifest.dtb": compile_dts(manifest(vms), m.path / "manifest.dtb"), "bench.bin": PAYLOAD})
    (m.path / "windows").unlink(missing_ok=True)
    values = values_of(m.run(IMAGE, initrd, limit=limit, echo=False, until=until))
    if counted:
        values.windows, values.boots = windows(m), windows(m, "mark")
        for key, (median, _, _, window) in values.by_key.items():
            if key != "baseline" and values.windows[window]["el2"] != median:
                raise Failure(f"{key}: {median} by the counter, but EL2 executed {values.windows[window]['el2']} instructions "
                              f"(log: {values.log()})")
    return values
