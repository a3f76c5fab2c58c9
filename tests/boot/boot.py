"""What boot tests share."""
from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "tools"))

from qemu import Machine, Result, compile_dts  # noqa: E402

IMAGE = REPOSITORY / "build/Image"
DEFAULT_LIMIT = 120


def limit(seconds: int):
    """The time that a test may take."""
    def mark(function):
        function.limit = seconds
        return function
    return mark


def add(module: dict, name: str, seconds: int, function, *arguments, **options) -> None:
    """A test of that name and time limit in the module (its globals()), which calls the function: for tables of tests."""
    def test() -> None:
        function(*arguments, **options)
    test.__module__ = module["__name__"]
    module[f"test_{name}"] = limit(seconds)(test)


def needs(*targets: str):
    """What `make` has to build for a test: run.py does, before the first test and outside of every time limit."""
    def mark(function):
        function.needs = targets
        return function
    return mark


def boot(machine: Machine, manifest: Path | str, files: dict[str, bytes | Path], image: Path = IMAGE, **options) -> Result:
    """Runs Weir with the manifest (a .dts file or its text) and the files that it names; see Machine.run for options."""
    text = manifest.read_text() if isinstance(manifest, Path) else manifest
    initrd = machine.initrd({"manifest.dtb": compile_dts(text, machine.path / "manifest.dtb"), **files})
    return machine.run(image, initrd, **options)


def expect(result: Result, *lines: str) -> None:
    """The run ended well, and the console shows these texts in this order."""
    reason = result.failure()
    assert reason is None, f"{reason} (log: {result.path / 'console.log'})"
    at = 0
    for line in lines:
        found = result.log.find(line, at)
        assert found >= 0, f"the log lacks: {line} (log: {result.path / 'console.log'})"
        at = found + len(line)


def payload(name: str) -> Path:
    """A payload of tests/guests, built."""
    return REPOSITORY / f"build/guests/{name}.bin"
