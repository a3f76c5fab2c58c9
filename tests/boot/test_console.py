"""The console: whose line is whose, what the vCPUs of a VM are doing, and ending a VM by keys."""
from boot import Machine, boot, limit, payload
from guests import BOOT, weir_lines

HOT_KEY = "\x1d"
ALL_SAID = "(?s)" + "".join(f"(?=.*stuck: {what})" for what in ("hangs", "crashes", "idles", "OK"))


@limit(90)
def test_stuck_vms():
    """One VM loops with interrupts masked, one takes exceptions for ever, one waits for ever: the summary tells which is which,
    and each is ended from the console. A fourth imitates Weir's lines."""
    machine = Machine("stuck", smmus=1, cpus=4, memory="1G")
    replies = [(ALL_SAID, HOT_KEY + "s")]
    for name, key in (("hangs", "1"), ("crashes", "2"), ("idles", "3")):
        replies += [(r"weir: smmuv3@\S+: commands|: ended from the console", HOT_KEY + key),
                    (rf"weir: console of {name}", HOT_KEY + "k"), (rf"weir: end VM {name}\? y", "n"),
                    (rf"weir: VM {name} goes on", HOT_KEY + "k"), (rf"weir: end VM {name}\? y", "y")]
    result = boot(machine, BOOT / "stuck/manifest.dts", {"stuck.bin": payload("stuck")}, limit=80, replies=replies)
    log = f"(log: {result.path / 'console.log'})"
    assert result.status == 1, f"QEMU's status is {result.status} {log}"  # VMs that are ended have not succeeded
    for name, what in (("hangs", "hung"), ("crashes", "crashed"), ("idles", "idle")):
        assert weir_lines(result, f"vm {name} vCPU 0: {what}"), f"the summary does not say that {name} is {what} {log}"
        assert weir_lines(result, f"VM '{name}': ended from the console"), f"{name} was not ended {log}"
    assert weir_lines(result, "VM 'forges': powered off"), f"forges has not powered off {log}"
    for how in ("a return", "an escape sequence", "a C1 control", "at the start of a line"):
        lines = [line for line in result.lines if f"forged by {how}" in line or f"forged {how}" in line]
        assert len(lines) == 1 and lines[0].startswith("forges| "), f"{how}: {lines} {log}"
