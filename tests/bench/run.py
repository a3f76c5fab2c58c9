#!/usr/bin/env python3
"""`make bench`: what Weir's work costs, in instructions, against the aims. docs/performance.md says what each number is.

run.py                     all of it, some minutes: a table, build/bench/bench.json, and the tables and plots in docs
run.py PART...             only these parts (one, smmus, precise, memory, vms, boot, linux, image), for bench.json; the others
                           stay in it as they were, and docs as they are. The part `docs` writes what bench.json has
run.py quick [PROPERTIES]  each measurement on one SMMU, in seconds; PROPERTIES of the vSMMU as a manifest has them
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import image  # noqa: E402
import linux  # noqa: E402
import report  # noqa: E402
from aims import NUMBERS, VMS  # noqa: E402
from machines import REPOSITORY, Failure, Values, Vm, measure  # noqa: E402

OUT = REPOSITORY / "build/bench"
READS = 20_000
PRECISE = 'invalidation = "precise"; no-global-pages;'
PRICED = {"smmu_read": "SMMU reads", "smmu_write": "SMMU writes", "mmio_read": "other MMIO reads", "mmio_write": "other MMIO writes",
          "dsb": "DSB", "dmb": "DMB", "isb": "ISB", "at": "AT", "tlbi": "TLBI", "atomic": "atomic", "system": "MRS/MSR"}
Numbers = dict[str, float]


def on_one(properties: str = "") -> Values:
    """All that is measured on one SMMU of three."""
    return measure("one", [Vm([1], properties=properties)], smmus=3, counted=True)


def on_many(name: str, n: int, properties: str) -> Values:
    """NH_ASID, NH_VA and a page given back, with one vSMMU over the first n of 16 SMMUs."""
    return measure(f"{name}-{n}", [Vm(list(range(n)), bootargs="fanout", properties=properties)], smmus=16, counted=True)


def one(keys: Numbers, details: Numbers) -> None:
    values = on_one()
    for key in ("trap.null", "inv.single", "cfgi.ste", "cfgi.cd", "event.forward"):
        keys[key] = values[key]
    keys["inv.batch64.per_command"] = values["batch.64"] / 64
    for name, key in (("trap.null", "trap.null"), ("inv.single", "inv.single"), ("batch64", "batch.64")):
        counted = values.counted(key)
        keys[f"mmio.{name}"] = sum(counted[kind] for kind in ("smmu_read", "smmu_write", "mmio_read", "mmio_write"))
        keys[f"barriers.dsb.{name}"] = counted["dsb"]
        keys[f"barriers.at.{name}"] = counted["at"]
        details |= {f"{kind}.{name}": counted[kind] for kind in PRICED}
    details |= {key: value[0] for key, value in values.by_key.items() if key != "baseline"}


def smmus(keys: Numbers, details: Numbers) -> None:
    for n in NUMBERS:
        values = on_many("strict", n, "")
        keys[f"fanout.strict.{n}"] = values["fanout"]
        details[f"fanout.strict_va.{n}"] = values["fanout.va"]
        if "unmap" in values:
            keys[f"s2.unmap.{n}"] = values["unmap"]
            details[f"s2.unmap.split.{n}"] = values.by_key["unmap"][2]


def precise(keys: Numbers, details: Numbers) -> None:
    for n in NUMBERS:
        values, late = on_many("precise", n, PRECISE), on_many("late", n, f"{PRECISE} late-events;")
        keys[f"fanout.precise.{n}"] = values["fanout"]
        keys[f"fanout.precise_late.{n}"] = late["fanout"]
        details[f"fanout.precise_va.{n}"] = values["fanout.va"]
        details[f"fanout.precise_late_va.{n}"] = late["fanout.va"]
    details |= {f"precise.{key}": value[0] for key, value in on_one(PRECISE).by_key.items() if key != "baseline"}


def memory(keys: Numbers, details: Numbers) -> None:
    """Not counted, so nothing needs icount: Weir zeroes the 4 GiB in a fraction of the time."""
    for n in NUMBERS:
        values = measure(f"memory-{n}", [Vm(list(range(n)), bootargs="setup", memory=4 << 30)], smmus=16, memory="5G", icount=False)
        cpu = int(values.weir(r"stage-2 table pages: CPU (\d+)")[1])
        tables = [int(pages) for pages in values.all(r"vm vm0 DMA table \d+: pages (\d+)")]
        keys[f"s2.table_bytes.{n}"] = sum(tables) * 4096
        details[f"s2.table_bytes.cpu.{n}"] = cpu * 4096
        details[f"s2.tables.{n}"] = len(tables)


def vms(keys: Numbers, details: Numbers) -> None:
    """The first of several VMs measures; the others have set up their vSMMU over the same SMMU, and sleep."""
    del keys
    for n in VMS:
        guests = [Vm([0], bootargs="wait=200" if i == 0 else "idle", devices=[f"00:{0x11 + i:02x}.0"]) for i in range(n)]
        values = measure(f"vms-{n}", guests, smmus=3, more=n, memory="2G", until="guest: bench: OK")
        for key in ("trap.null", "inv.single", "batch.64"):
            details[f"vms.{key}.{n}"] = values[key]


def boot(keys: Numbers, details: Numbers) -> None:
    """A small VM on all three SMMUs of a machine with one CPU: with more, QEMU gives them turns as the host's clock has it."""
    values = measure("boot", [Vm([0, 1, 2], bootargs="setup")], smmus=3, memory="2G", counted=True)
    # Weir's first instructions are at physical addresses, and count as a program's.
    keys["boot.to_guest"] = sum(values.boots[0][kind] for kind in ("el2", "user", "kernel"))
    details["boot.to_guest.before"] = report.BOOT_BEFORE


def in_linux(keys: Numbers, details: Numbers) -> None:
    strict = linux.load("strict", linux.STRICT, READS, weir=True)
    few = linux.load("few", linux.STRICT, READS // 10, weir=True)
    exits, syncs = (a - b for a, b in zip(strict.vsmmu(), few.vsmmu()))
    keys["inv.exits_per_sync"] = exits / syncs
    stage2 = linux.load("stage2", linux.PASSTHROUGH, READS, weir=True)
    bare = linux.load("bare", linux.STRICT, READS, weir=False)
    keys["linux.read4k.ratio"] = round(strict.per_read() / bare.per_read(), 3)
    keys["linux.read4k.vsmmu_extra"] = round(strict.per_read() - stage2.per_read())
    for name, load in (("strict", strict), ("stage2", stage2), ("bare", bare)):
        details[f"linux.read4k.{name}"] = round(load.per_read())
        details[f"linux.read4k.{name}.el2"] = round(load.per_read("el2"))
        details[f"linux.read4k.{name}.exits"] = round(load.per_read("eret"), 2)
        details[f"linux.read4k.{name}.spread"] = round(load.spread(), 3)


def of_image(keys: Numbers, details: Numbers) -> None:
    for key, value in image.image().items():
        (keys if key in ("image.bytes", "image.own_bytes") else details)[key] = value


PARTS = {"one": one, "smmus": smmus, "precise": precise, "memory": memory, "vms": vms, "boot": boot, "linux": in_linux,
         "image": of_image}


def quick(properties: str) -> None:
    """Each measurement, and what the instructions of the median's window were."""
    values = on_one(properties)
    for key, (median, least, most, _) in values.by_key.items():
        spread = f" ({least} to {most})" if least != most else ""
        counted = values.counted(key)
        priced = ", ".join(f"{counted[name]} {text}" for name, text in PRICED.items() if counted[name])
        print(f"{key:24} {f'{median}{spread}':26} {priced}")
    print(f"{'inv.batch64.per_command':24} {values['batch.64'] / 64:.1f}")


def main() -> int:
    start = time.monotonic()
    if sys.argv[1:2] == ["quick"]:
        quick(" ".join(sys.argv[2:]))
        print(f"bench: {time.monotonic() - start:.1f} s")
        return 0
    wanted = [part for part in sys.argv[1:] if part != "docs"] if sys.argv[1:] else list(PARTS)
    for part in wanted:
        if part not in PARTS:
            raise Failure(f"no such part: {part}; there are: {' '.join(PARTS)}")
    path = OUT / "bench.json"
    found = json.loads(path.read_text())["parts"] if sys.argv[1:] and path.exists() else {}
    failed = 0
    for part in wanted:
        begin = time.monotonic()
        print(f"bench {part} ...", end=" ", flush=True)
        keys: Numbers = {}
        details: Numbers = {}
        try:
            PARTS[part](keys, details)
            found[part] = {"keys": keys, "details": details}
            print(f"{time.monotonic() - begin:.0f} s", flush=True)
        except Failure as failure:
            failed += 1
            found.pop(part, None)
            print(f"FAIL: {failure}", flush=True)
    document = report.document({part: found[part] for part in PARTS if part in found})
    OUT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\n{report.table(document['keys'])}")
    if "docs" in sys.argv or (not sys.argv[1:] and not failed):
        report.write_docs(document["keys"], document["details"])
    print(f"bench: {failed} parts failed, {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as problem:
        print(f"bench: FAIL: {problem}")
        sys.exit(1)
