#!/usr/bin/env python3
"""Where EL2's instructions go: per exit of a guest, or from Weir's entry to the guest's first instruction.

    tools/enter tools/trace-exit.py                   every operation of the payload `exits`, in total
    tools/enter tools/trace-exit.py single batch64-3  these operations, by function
    tools/enter tools/trace-exit.py --pcs single      and every instruction of the cheapest exit, in order
    tools/enter tools/trace-exit.py --boot            from Weir's first instruction to the guest's, by function

It needs `make image guests`. QEMU runs one instruction at a time and writes down each PC (-d exec,nochain); for an operation
only while it runs: the payload says "run NAME" and waits for a key. The counts are those of the instructions from the
vector to the ERET, inlined code under the name of the function that it is in (--lines: under source lines instead).
The payload's own numbers, from the counter under -icount, count the store and what stands around it too.
"""
from __future__ import annotations

import argparse
import bisect
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from qemu import REPOSITORY, Machine, compile_dts  # noqa: E402

ELF = REPOSITORY / "build/weir.elf"
LINK_BASE = 0xFF0000000000  # hyp/boot/weir.lds
EL2_MASK = 0xFFFF00000000
TRACE = re.compile(rb"^Trace (\d+): \S+ \[[0-9a-f]+/([0-9a-f]+)/")


class Symbols:
    def __init__(self, elf: Path) -> None:
        text = subprocess.run(["llvm-nm-19", "-C", "-n", str(elf)], capture_output=True, text=True, check=True).stdout
        rows = [line.split(" ", 2) for line in text.splitlines() if line[17:18] in ("t", "T")]
        self.starts = [int(row[0], 16) for row in rows]
        self.names = [self.shorten(row[2]) for row in rows]
        self.cache: dict[int, str] = {}

    @staticmethod
    def shorten(name: str) -> str:
        name = name.replace("(anonymous namespace)::", "").replace("weir::", "")
        return re.sub(r"\(.*", "", re.sub(r"<.*>", "<>", name))

    def __call__(self, pc: int) -> str:
        if pc not in self.cache:
            at = bisect.bisect_right(self.starts, pc) - 1
            self.cache[pc] = self.names[at] if at >= 0 else hex(pc)
        return self.cache[pc]


def source_lines(pcs: list[int]) -> dict[int, str]:
    """file:line of the innermost inlined function, and its name."""
    asked = "\n".join(hex(pc) for pc in pcs)
    text = subprocess.run(["llvm-symbolizer-19", "--obj", str(ELF), "--inlines", "-C", "--basenames"], input=asked,
                          capture_output=True, text=True, check=True).stdout
    found = {}
    for pc, block in zip(pcs, text.split("\n\n")):
        lines = block.split("\n")
        found[pc] = f"{Symbols.shorten(lines[0]):40} {lines[1].rsplit(':', 1)[0]}"
    return found


def machine(name: str) -> Machine:
    testdev = "iommu-testdev"
    port = "pcie-root-port,id=rp{0},bus=pcie.{0},addr={0},chassis={0},slot={0}"
    return Machine(name, cpus=2, memory="512M", icount=True, devices=[
        f"{testdev},bus=pcie.0,addr=5", f"{testdev},bus=pcie.0,addr=6", port.format(1), f"{testdev},bus=rp1", port.format(2),
        f"{testdev},bus=rp2"])


def command(m: Machine, append: str) -> list[str]:
    manifest = (REPOSITORY / "tests/boot/exits/manifest.dts").read_text().replace("devices=4", f"devices=4 {append}")
    initrd = m.initrd({"manifest.dtb": compile_dts(manifest, m.path / "manifest.dtb"),
                       "exits.bin": REPOSITORY / "build/guests/exits.bin"})
    return m.command(REPOSITORY / "build/Image", initrd) + ["-serial", "stdio"]


def split_exits(pcs: list[int]) -> list[list[int]]:
    """The runs of EL2 instructions."""
    exits, current = [], []
    for pc in pcs:
        if pc & EL2_MASK == LINK_BASE & EL2_MASK:
            current.append(pc)
        elif current:
            exits.append(current)
            current = []
    return exits


def read_trace(path: Path) -> list[int]:
    with open(path, "rb") as file:
        return [int(match[2], 16) for match in map(TRACE.match, file) if match and match[1] == b"0"]


def run_operations(symbols: Symbols, wanted: list[str], arguments: argparse.Namespace) -> None:
    m = machine("trace-exit")
    log, monitor = m.path / "trace.log", m.path / "monitor"
    line = command(m, "")
    at = line.index("-monitor")
    line[at:at + 2] = ["-monitor", f"unix:{monitor},server=on,wait=off"]
    monitor.unlink(missing_ok=True)
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as qemu:
        assert qemu.stdin and qemu.stdout
        control = socket.socket(socket.AF_UNIX)
        while not monitor.exists():
            time.sleep(0.05)
        control.connect(str(monitor))

        def tell(text: str) -> None:
            control.sendall(text.encode() + b"\n")
            answer = b""
            while answer.count(b"(qemu)") < 1:
                answer += control.recv(4096)

        control.recv(4096)
        for raw in qemu.stdout:
            text = raw.decode(errors="replace").strip()
            match = re.search(r"guest: exits: (run|end) ([^ :]+)(.*)", text)
            if not match or arguments.verbose:
                if arguments.verbose or "FAIL" in text or "panic" in text:
                    print(text, flush=True)
            if not match:
                continue
            name, traced = match[2], not wanted or match[2] in wanted
            if match[1] == "run":
                if traced:
                    tell("one-insn-per-tb on")
                    tell(f"logfile {log}")
                    tell("log exec,nochain")
                qemu.stdin.write(b"g")
                qemu.stdin.flush()
            elif traced:
                tell("log none")
                tell("one-insn-per-tb off")
                report(symbols, name + match[3], [e for e in split_exits(read_trace(log)) if is_measured(e)],
                       arguments, bool(wanted))
                log.unlink()


def is_measured(exit_: list[int]) -> bool:
    """Has it to do with a vSMMU? By source files: functions are inlined across them."""
    return any(at.split()[-1].startswith("vsmmu.cpp:") for at in source_lines(sorted(set(exit_))).values())


def report(symbols: Symbols, title: str, exits: list[list[int]], arguments: argparse.Namespace, details: bool) -> None:
    if not exits:
        print(f"{title}: no exit of a vSMMU seen")
        return
    best = min(exits[1:] or exits, key=len)
    print(f"{title}; EL2: {len(best)} instructions ({len(exits)} exits)", flush=True)
    if not details:
        return
    name = symbols
    if arguments.lines:
        found = source_lines(sorted(set(best)))
        name = found.__getitem__
    show(Counter(map(name, best)))
    if arguments.pcs:
        found = source_lines(sorted(set(best)))
        for pc in best:
            print(f"    {pc:x} {found[pc]}")


def show(counts: Counter, most: int = 200) -> None:
    for function, n in counts.most_common(most):
        print(f"  {n:10} {function}")


def run_boot(symbols: Symbols) -> None:
    """Counts on the fly: a log of millions of lines would not fit."""
    m = machine("trace-boot")
    fifo = m.path / "trace.fifo"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    line = command(m, "free-running") + ["-accel", "tcg,one-insn-per-tb=on", "-d", "exec,nochain", "-D", str(fifo)]
    counts: list[Counter] = [Counter() for _ in range(m.cpus)]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=REPOSITORY) as qemu:
        assert qemu.stdout
        threading.Thread(target=qemu.stdout.read, daemon=True).start()
        seen_el2 = [False] * m.cpus
        with open(fifo, "rb", buffering=1 << 20) as trace:
            for raw in trace:
                if not raw.startswith(b"Trace"):
                    continue
                # "Trace N: 0x7f... [00400000/0000ff0000001234/..."
                at = raw.find(b"/")
                pc = int(raw[at + 1:at + 17], 16)
                cpu = int(raw[6:raw.index(b":")])
                counts[cpu][pc] += 1
                if pc & EL2_MASK == LINK_BASE & EL2_MASK:
                    seen_el2[cpu] = True
                elif seen_el2[cpu] and pc >= 0x4000_0000:
                    break
        qemu.kill()
    fifo.unlink()
    for cpu, by_pc in enumerate(counts):
        by_name: Counter = Counter()
        for pc, n in by_pc.items():
            by_name[symbols(pc) if pc >= LINK_BASE else "(before the MMU is on)"] += n
        print(f"CPU {cpu}: {sum(by_name.values())} instructions")
        show(by_name, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operations", nargs="*")
    parser.add_argument("--boot", action="store_true")
    parser.add_argument("--lines", action="store_true", help="by source line")
    parser.add_argument("--pcs", action="store_true", help="list each instruction")
    parser.add_argument("--verbose", action="store_true", help="show the console")
    arguments = parser.parse_args()
    symbols = Symbols(ELF)
    if arguments.boot:
        run_boot(symbols)
    else:
        run_operations(symbols, arguments.operations, arguments)


if __name__ == "__main__":
    main()
