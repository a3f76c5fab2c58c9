"""The tests have teeth: with a fault planted in Weir (vsmmu/fault_injection.hpp) they fail, and where they should."""
from pathlib import Path

from boot import REPOSITORY, limit, needs
from guests import Result, boot_nested, said
from test_fleet import run_one


def image_of(mutant: str) -> Path:
    return REPOSITORY / f"build/mutants/{mutant}/Image"


def expect_failure(result: Result, guest: str, check: str, mutant: str) -> None:
    lines = said(result, guest)
    log = f"(log: {result.path / 'console.log'})"
    assert "OK" not in lines, f"the test does not notice {mutant} {log}"
    assert any(line.startswith(f"FAIL {check}") for line in lines), f"no failure of {check}, but: {lines[:3]} {log}"


def expect_noticed(mutant: str, check: str) -> None:
    image = image_of(mutant)
    expect_failure(boot_nested(f"mutant-{mutant}", image=image), "nested", check, mutant)
    backing = '"smmuv3@c020000", "smmuv3@c040000";'
    expect_failure(boot_nested(f"mutant-{mutant}-precise", {backing: f'{backing} invalidation = "precise";'}, image=image),
                   "nested", check, mutant)
    expect_failure(run_one(f"mutant-{mutant}-fleet", image=image), "fleet", "work: DMA", mutant)


@needs("build/mutants/drop_invalidation/Image")
@limit(300)
def test_drop_invalidation():
    expect_noticed("drop_invalidation", "unmap-nh-va: ")


@needs("build/mutants/wrong_vmid/Image")
@limit(300)
def test_wrong_vmid():
    expect_noticed("wrong_vmid", "unmap-nh-va: ")
