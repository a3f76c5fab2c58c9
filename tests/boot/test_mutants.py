"""The nested test has teeth: with a fault planted in Weir (vsmmu/fault_injection.hpp) it fails, and where it should."""
import subprocess

from boot import REPOSITORY, limit
from guests import boot_nested, said


def expect_noticed(mutant: str, check: str) -> None:
    image = REPOSITORY / f"build/mutants/{mutant}/Image"
    subprocess.run(["make", "-s", str(image.relative_to(REPOSITORY))], cwd=REPOSITORY, check=True)
    result = boot_nested(f"mutant-{mutant}", image=image)
    lines = said(result, "nested")
    log = f"(log: {result.path / 'console.log'})"
    assert "OK" not in lines, f"the test does not notice {mutant} {log}"
    assert any(line.startswith(f"FAIL {check}: ") for line in lines), f"no failure of {check}, but: {lines[:3]} {log}"


@limit(150)
def test_drop_invalidation():
    expect_noticed("drop_invalidation", "unmap-nh-va")


@limit(150)
def test_wrong_vmid():
    expect_noticed("wrong_vmid", "unmap-nh-va")
