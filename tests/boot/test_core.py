"""The core of Weir by itself, without VMs: hyp/boot/selftest. Panics must say what happened and where."""
from __future__ import annotations

import re
from pathlib import Path

from boot import IMAGE, compile_dts, limit
from qemu import Machine, Result, decompile_dtb


def selftest(name: str) -> Result:
    machine = Machine(f"core-{name}", cpus=4)
    return machine.run(IMAGE, append=f"weir.exit=semihosting weir.selftest={name}", limit=40)


def expect_panic(name: str, *texts: str) -> None:
    result = selftest(name)
    assert result.status == 1, f"status {result.status}, expected 1 (log: {result.path / 'console.log'})"
    for text in ("weir: panic: ", "x29", *texts):
        assert text in result.log, f"the log lacks: {text} (log: {result.path / 'console.log'})"


@limit(60)
def test_memory_and_cpus():
    """Heap, pages, thread-locals on four pCPUs, the world switch."""
    result = selftest("core")
    assert result.status == 0, f"status {result.status} (log: {result.path / 'console.log'})"


@limit(60)
def test_text_is_not_writable():
    expect_panic("text-write", "permission fault")


@limit(60)
def test_stacks_have_guard_pages():
    expect_panic("stack-overflow", "guard page")


@limit(60)
def test_undefined_instruction():
    expect_panic("undefined", "udf", "weir: panic:   #1 ", "weir: panic:   #2 ")  # the chain of frames, too

def planted(name: str, seconds: float = 20, until: str | None = None) -> tuple[Result, int]:
    """The run of a planted fault, and how many exceptions were taken in it."""
    machine = Machine(f"core-{name}", cpus=2, memory="512M")
    taken = machine.path / "exceptions.log"
    machine.extra = ["-d", "int", "-D", str(taken)]
    result = machine.run(IMAGE, append=f"weir.exit=semihosting weir.selftest={name}", limit=seconds, until=until)
    return result, taken.read_text(errors="replace").count("Taking exception")


def expect_lines(result: Result, *texts: str) -> None:
    for text in texts:
        assert text in result.log, f"the log lacks: {text} (log: {result.path / 'console.log'})"


# More than a boot and three exceptions take; a loop takes as many in a blink.
FEW_EXCEPTIONS = 50


def expect_minimal(name: str, *texts: str) -> None:
    result, taken = planted(name)
    expect_lines(result, "while a panic was being reported or could not be", "ESR 0x", "x30 0x", *texts)
    assert result.status == 1, f"status {result.status}, expected 1 (log: {result.path / 'console.log'})"
    assert taken < FEW_EXCEPTIONS, f"{taken} exceptions were taken"


@limit(60)
def test_early_exception():
    """Before there is memory."""
    result, _ = planted("undefined-early")
    assert result.status is not None
    expect_lines(result, "weir: panic: synchronous exception at EL2 on pCPU 0: undefined instruction", "backtrace")


@limit(60)
def test_exception_without_thread_pointer():
    expect_minimal("no-thread-pointer")


@limit(60)
def test_exception_in_a_panic():
    expect_minimal("fault-in-panic", "ESR 0x0000000002000000")


@limit(60)
def test_panic_in_a_panic():
    expect_minimal("panic-twice", "while reporting the first one: the second one")


@limit(60)
def test_emergency_stacks_have_guard_pages():
    expect_minimal("emergency-overflow", "ESR 0x0000000096000047")


@limit(60)
def test_third_exception_parks():
    """No more words, no way out, and no loop."""
    result, taken = planted("fault-in-minimal", seconds=8)
    assert result.status is None and "panic" not in result.log, f"(log: {result.path / 'console.log'})"
    assert 3 <= taken < FEW_EXCEPTIONS, f"{taken} exceptions were taken"


@limit(60)
def test_second_cpu_at_el1():
    result, taken = planted("secondary-el1")
    expect_lines(result, "the CPU with MPIDR 0x0000000080000001 is not used: entered at EL1; expected EL2")
    assert taken < FEW_EXCEPTIONS, f"{taken} exceptions were taken"


@limit(60)
def test_early_exception_of_second_cpu():
    result, taken = planted("secondary-fault")
    expect_lines(result, "weir: panic: synchronous exception at EL2, before the MMU is on", "FAR 0x0000800000000000")
    assert taken < FEW_EXCEPTIONS, f"{taken} exceptions were taken"


class Odd(Machine):
    """A machine that Weir does not expect. `changes` of the options of -machine; `edit` takes and returns its devicetree's text."""

    def __init__(self, name: str, changes: str = "", edit=None, **options):
        self.changes, self.edit = changes, edit
        super().__init__(f"core-{name}", **{"smmus": 1, "cpus": 2, "memory": "512M", **options})

    def arguments(self, machine: str = "") -> list[str]:
        return super().arguments("," + self.changes + machine if self.changes else machine)

    def dtb(self) -> Path:
        complete = super().dtb()
        return compile_dts(self.edit(decompile_dtb(complete)), complete) if self.edit else complete


def expect_stop(machine: Machine, line: str, **options) -> None:
    """Weir says the line, and nothing goes on."""
    taken = machine.path / "exceptions.log"
    machine.extra += ["-d", "int", "-D", str(taken)]
    result = machine.run(IMAGE, limit=20, until=re.escape(line) + r".*\n", **options)
    assert result.status is not None, f"the log lacks: {line} (log: {result.path / 'console.log'})"
    count = taken.read_text(errors="replace").count("Taking exception")
    assert count < FEW_EXCEPTIONS, f"{count} exceptions were taken"


@limit(60)
def test_gicv2():
    expect_stop(Odd("gicv2", "gic-version=2"), 'weir: /: compatible = "arm,gic-v3": no such node')


@limit(60)
def test_started_at_el1():
    expect_stop(Odd("el1", virtualization=False), "weir: entered at EL1; expected EL2")


class Bare(Odd):
    """Not started by QEMU's boot loader: the CPU comes out of reset into a few instructions that put `x0` into its register."""
    START, ENTRY = 0x60000000, 0x40200000

    def __init__(self, name: str, x0: int, changes: str = ""):
        self.x0 = x0
        super().__init__(name, changes, memory="1G", cpus=1)

    def command(self, image, initrd, append: str = "") -> list[str]:
        def load(register: int, value: int) -> list[int]:  # MOVZ and three MOVK
            return [(0xD2800000 if i == 0 else 0xF2800000) | i << 21 | (value >> 16 * i & 0xFFFF) << 5 | register
                    for i in range(4)]
        words = load(0, self.x0) + load(1, self.ENTRY) + [0xD61F0020]  # BR X1
        start = self.path / "start.bin"
        start.write_bytes(b"".join(word.to_bytes(4, "little") for word in words))
        return self.arguments() + ["-device", f"loader,file={image},addr={self.ENTRY:#x},force-raw=on",
                                   "-device", f"loader,file={start},addr={self.START:#x},force-raw=on",
                                   "-device", f"loader,addr={self.START:#x},cpu-num=0"]


@limit(60)
def test_started_at_el3():
    """Its devicetree is where QEMU leaves it without a kernel: at the start of RAM."""
    expect_stop(Bare("el3", 0x40000000, "secure=on"), "weir: entered at EL3; expected EL2")


@limit(60)
def test_no_devicetree():
    expect_stop(Bare("no-devicetree", 0), "weir: x0 = 0x0000000000000000 is no devicetree")


@limit(60)
def test_devicetree_nowhere():
    """A read of it is an external abort."""
    expect_stop(Bare("devicetree-nowhere", 0x7F_0000_0000), "weir: x0 = 0x0000007f00000000 is no devicetree")


def carve(step: int, size: int, count: int):
    """Adds no-map ranges from 0x50000000 on."""
    def edit(text: str) -> str:
        nodes = "".join(f"hole@{at:x} {{ reg = <0 {at:#x} 0 {size:#x}>; no-map; }};\n"
                        for at in range(0x50000000, 0x50000000 + count * step, step))
        return text + "\n/ { reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;\n" + nodes + "}; };\n"
    return edit


def expect_core(machine: Machine, least: int) -> None:
    """The core's own test passes, with at least so many MiB free."""
    result = machine.run(IMAGE, append="weir.exit=semihosting weir.selftest=core", limit=50)
    assert result.status == 0, f"status {result.status} (log: {result.path / 'console.log'})"
    free = re.search(r"weir: (\d+) MiB of RAM free", result.log)
    assert free and int(free[1]) >= least, f"{free and free[0]} (log: {result.path / 'console.log'})"


@limit(120)
def test_carve_outs():
    """Hundreds of no-map ranges, in steps of 4 MiB and of 8 KiB."""
    expect_core(Odd("carve-blocks", edit=carve(0x400000, 0x200000, 340), memory="2G"), 1280)
    expect_core(Odd("carve-pages", edit=carve(0x2000, 0x1000, 400), memory="2G"), 1900)


class HighMemory(Bare):
    """64 MiB of RAM at the usual place, and a gigabyte at 16 TiB, which QEMU has with firmware only: a few instructions."""
    DTB, HIGH = 0x43000000, 0x100000000000

    def __init__(self, name: str):
        super().__init__(name, self.DTB)
        self.memory = "1G,slots=1,maxmem=33T"

    def command(self, image, initrd, append: str = "") -> list[str]:
        text = re.sub(r"(memory@40000000 \{[^}]*reg = <)[^>]*>",
                      rf"\1 0 0x40000000 0 0x4000000 {self.HIGH >> 32:#x} 0 0 0x40000000>", decompile_dtb(self.dtb()))
        blob = compile_dts(f'{text}\n/ {{ chosen {{ bootargs = "{append}"; }}; }};\n', self.path / "high.dtb")
        arguments = super().command(image, initrd, append)
        return arguments[:-2] + ["-bios", str(self.path / "start.bin"),
                                 "-device", f"loader,file={blob},addr={self.DTB:#x},force-raw=on",
                                 "-object", "memory-backend-ram,id=high,size=1G",
                                 "-device", f"pc-dimm,memdev=high,addr={self.HIGH:#x}"]


@limit(60)
def test_memory_above_16_tib():
    """The heap and most pages are taken from there."""
    expect_core(HighMemory("high-memory"), 1025)
