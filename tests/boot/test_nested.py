"""Nested translation on two physical SMMUs: where data lands, when invalidations take effect, what is refused."""
import re

from boot import limit
from guests import boot_nested, expect_handled, expect_ok, said, weir_lines


def expect_violation(result, device: str) -> None:
    assert any(device in line for line in weir_lines(result, "violation")), \
        f"Weir did not report a violation by {device} (log: {result.path / 'console.log'})"


@limit(90)
def test_two_instances():
    result = boot_nested("nested")
    expect_ok(result, "nested")
    expect_handled(result)
    for device in ("testdev1", "testdev2", "testdev3"):
        expect_violation(result, device)


@limit(90)
def test_narrowed():
    """A vSMMU that offers less than its SMMUs could."""
    backing = '"smmuv3@c020000", "smmuv3@c040000";'
    narrowing = ("no-range-invalidation; linear-stream-table; asid-bits = <8>; no-msi; no-sev; no-stall; no-httu;"
                 "substream-bits = <0>; command-queue-log2 = <8>; event-queue-log2 = <7>; oas-bits = <40>;")
    result = boot_nested("nested-narrowed", {"devices=3": "devices=3 narrowed", backing: f"{backing} {narrowing}"})
    expect_ok(result, "nested")
    expect_handled(result)
    announces = next((line for line in weir_lines(result, "vm nested vsmmu both announces")), "")
    assert "8-bit ASIDs, OAS 40, linear stream table, queues 8/7" in announces, f"the summary says: {announces}"


@limit(90)
def test_precise():
    """Weir holds the context descriptors: the guest sees no difference."""
    backing = '"smmuv3@c020000", "smmuv3@c040000";'
    result = boot_nested("nested-precise", {backing: f'{backing} invalidation = "precise";'})
    expect_ok(result, "nested")
    expect_handled(result)
    copied = next((line for line in weir_lines(result, "vm nested vsmmu both: ") if "CDs copied" in line), None)
    assert copied, f"no context descriptor was copied (log: {result.path / 'console.log'})"


@limit(90)
def test_grants():
    """ATS, PRI and PASID granted to a device of a machine that has none of them: said at boot, and nothing is offered."""
    result = boot_nested("nested-grants", {'"log";': '"log"; ats = "full"; pri; pasid;'})
    expect_ok(result, "nested")
    expect_handled(result)
    for grant in ("ats", "pri", "pasid"):
        assert any(f"device testdev1: {grant} is granted, but not all SMMUs" in line for line in weir_lines(result)), \
            f"Weir does not say that {grant} cannot be had (log: {result.path / 'console.log'})"
    assert any("device testdev1 is granted: full ATS PRI PASID" in line for line in weir_lines(result)), \
        f"the summary lacks the grant (log: {result.path / 'console.log'})"


@limit(90)
def test_without_wires():
    """SMMUs without interrupts: Weir says so and looks at them; the guest still gets its events."""
    names, wires = r'\n\t\tinterrupt-names = "eventq"[^;]*;', r"\n\t\tinterrupts = <[^;]*;"
    result = boot_nested("nested-without-wires", tree={f"{wires}{names}|{names}{wires}": ""})
    expect_ok(result, "nested")
    expect_handled(result)
    for smmu in ("smmuv3@c020000", "smmuv3@c040000"):
        assert any(f"{smmu}: no wired interrupt for events global errors" in line for line in weir_lines(result)), \
            f"Weir does not say that {smmu} is polled (log: {result.path / 'console.log'})"


@limit(90)
def test_known_part():
    """Each invalidation is sent twice where the part needs that, which the guest does not notice."""
    result = boot_nested("nested-known-part",
                         tree={'compatible = "arm,smmu-v3"': 'compatible = "nvidia,tegra264-smmu", "arm,smmu-v3"'})
    expect_ok(result, "nested")
    expect_handled(result)


@limit(30)
def test_unknown_part():
    result = boot_nested("nested-unknown-part",
                         tree={'compatible = "arm,smmu-v3"': 'compatible = "vendor,odd", "arm,smmu-v3"'}, time=20)
    assert any("smmuv3@c020000, vendor,odd is not used: " in line and "accept-smmus" in line
               for line in weir_lines(result)), f"the part is not named (log: {result.path / 'console.log'})"
    assert not said(result, "nested"), f"a VM started (log: {result.path / 'console.log'})"


@limit(45)
def test_quarantine():
    result = boot_nested("nested-quarantine", {"devices=3": "devices=3 quarantine", '"log"': '"quarantine"'}, time=30)
    expect_ok(result, "nested")
    expect_handled(result)
    expect_violation(result, "testdev1")


@limit(45)
def test_stop():
    result = boot_nested("nested-stop", {"devices=3": "devices=3 stop", '"log"': '"stop"'}, time=30)
    expect_violation(result, "testdev1")
    log = f"(log: {result.path / 'console.log'})"
    assert not said(result, "nested"), f"the guest went on {log}"
    assert result.status not in (None, 0), f"QEMU's status is {result.status} {log}"
    assert not weir_lines(result, "panic"), f"Weir panicked {log}"


def expect_unusable(stage: str, feature: str) -> None:
    """The third SMMU does one stage only: said at boot, and a vSMMU that names it is refused with its name."""
    result = boot_nested(f"nested-stage{stage}", time=30, stages={2: stage})
    log = f"(log: {result.path / 'console.log'})"
    assert any("smmuv3@c040000 is not used" in line and feature in line for line in weir_lines(result)), \
        f"Weir does not say that the SMMU lacks {feature} {log}"
    assert any(re.search(r'/vms/nested: .*vsmmu both.*"smmuv3@c040000" cannot be used: ' + feature, line)
               for line in weir_lines(result)), f"Weir does not refuse the SMMU by its name {log}"
    assert not said(result, "nested"), f"the guest was started {log}"
    assert result.status not in (None, 0), f"QEMU's status is {result.status} {log}"


@limit(45)
def test_no_stage2():
    expect_unusable("1", "IDR0.S2P")


@limit(45)
def test_no_stage1():
    expect_unusable("2", "IDR0.S1P")


@limit(45)
def test_beside_an_unusable_one():
    """SMMUs that can nest are none the worse for one that cannot."""
    result = boot_nested("nested-beside", stages={0: "1"})
    expect_ok(result, "nested")
    expect_handled(result)
    assert any("smmuv3@c000000 is not used" in line for line in weir_lines(result)), "the first SMMU can nest"
