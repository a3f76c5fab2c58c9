"""The core of Weir by itself, without VMs: hyp/boot/selftest. Panics must say what happened and where."""
from boot import IMAGE, limit
from qemu import Machine, Result


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
