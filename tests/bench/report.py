"""The table, the JSON document, and what `make bench` writes into docs: a table between two markers, and plots."""
from __future__ import annotations

from aims import BATCHES, BOOT_BEFORE, NUMBERS, VMS, aim_of, number, order, verdict
from machines import REPOSITORY
from svg import Plot, draw

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- bench:begin ({name}), written by make bench -->", "<!-- bench:end ({name}) -->"
Numbers = dict[str, float]

__all__ = ["BOOT_BEFORE", "document", "table", "write_docs"]


def table(keys: Numbers) -> str:
    return "\n".join(f"{key:28} {number(value):>14}  {aim_of(key).text:28} {verdict(keys, key)}" for key, value in keys.items())


def document(parts: dict[str, dict[str, Numbers]]) -> dict:
    """bench.json: all keys with their aims, all details, no key twice, and both by the part of the benchmark that found them."""
    keys = dict(sorted(((key, value) for part in parts.values() for key, value in part["keys"].items()), key=lambda item: order(item[0])))
    details = {key: value for part in parts.values() for key, value in part["details"].items() if key not in keys}
    return {"keys": keys, "aims": {key: {"aim": aim_of(key).text, "verdict": verdict(keys, key)} for key in keys},
            "details": details, "parts": parts}


def _line(keys: Numbers, start: str, over: tuple[int, ...]) -> list[tuple[float, float]]:
    return [(n, keys[f"{start}.{n}"]) for n in over if f"{start}.{n}" in keys]


def plots(keys: Numbers, details: Numbers) -> dict[str, Plot]:
    smmus = Plot("One guest invalidation (NH_ASID + SYNC) over the number of SMMUs", "SMMUs behind the vSMMU", "EL2 instructions")
    smmus.add("strict", _line(keys, "fanout.strict", NUMBERS))
    smmus.add("precise", _line(keys, "fanout.precise", NUMBERS))
    smmus.add("precise, late events", _line(keys, "fanout.precise_late", NUMBERS))
    unmap = Plot("4 KiB given back (relinquish) over the number of SMMUs", "SMMUs that the VM is on", "EL2 instructions")
    unmap.add("page of a block that is split already", _line(keys, "s2.unmap", NUMBERS))
    unmap.add("first page of a block", _line(details, "s2.unmap.split", NUMBERS))
    batch = Plot("One exit over the number of commands in it", "commands, the last a SYNC", "EL2 instructions per command")
    for name, start in (("scattered pages", "batch"), ("adjacent pages", "batch.adjacent")):
        batch.add(name, [(n, total / n) for n, total in _line(details, start, BATCHES)])
    vms = Plot("One exit over the number of VMs on the SMMU", "VMs", "EL2 instructions")
    for name, start in (("a store with no effect", "vms.trap.null"), ("NH_VA + SYNC", "vms.inv.single")):
        vms.add(name, _line(details, start, VMS))
    return {"bench-smmus": smmus, "bench-unmap": unmap, "bench-batch": batch, "bench-vms": vms}


def _between(text: str, name: str, content: str) -> str:
    begin, end = BEGIN.format(name=name), END.format(name=name)
    head, rest = text.split(begin, 1)
    tail = rest.split(end, 1)[1]
    return f"{head}{begin}\n{content}\n{end}{tail}"


def _markdown(keys: Numbers) -> str:
    rows = ["| Key | Now | Aim | |", "|---|--:|---|---|"]
    return "\n".join(rows + [f"| `{key}` | {number(value)} | {aim_of(key).text} | {verdict(keys, key)} |" for key, value in keys.items()])


def _comparison(details: Numbers) -> str:
    names = ("stage2", "strict", "strict.el2", "stage2.el2")
    stage2, strict, el2, el2_stage2 = (details[f"linux.read4k.{name}"] for name in names)
    return "\n".join((
        "| | Stage 2 only | With a strict vSMMU | Difference |", "|---|--:|--:|--:|",
        "| KVM + QEMU + iommufd (Linux 7.2 as host and guest, QEMU 11.1.3, the host's check for S2FWB lifted) | 15,000 | 39,000 | 24,000 |",
        f"| Weir (Debian's 6.12 as guest) | {number(stage2)} | {number(strict)} | {number(strict - stage2)}, {number(el2 - el2_stage2)} of it in EL2 |"))


def write_docs(keys: Numbers, details: Numbers) -> None:
    for name, plot in plots(keys, details).items():
        if plot.series:
            (DOCS / f"{name}.svg").write_text(draw(plot))
    text = _between(PAGE.read_text(), "results", _markdown(keys))
    rows = ["| | |", "|---|--:|"] + [f"| `{key}` | {number(value)} |" for key, value in details.items()]
    PAGE.write_text(_between(text, "details", "\n".join(rows)))
    comparison = DOCS / "comparison.md"
    comparison.write_text(_between(comparison.read_text(), "comparison", _comparison(details)))
