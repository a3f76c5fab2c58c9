"""Machines with as many SMMUs as QEMU has: one VM behind all of them on several pCPUs at once, and VMs beside each other."""
from __future__ import annotations

import re

from boot import IMAGE, Machine, Result, boot, limit, payload
from guests import TESTDEV, expect_handled, expect_ok

SMMUS = 16
MTTCG = ["-accel", "tcg,thread=multi"]


def smmu_name(number: int) -> str:
    return f"smmuv3@{0x0c000000 + number * 0x20000:x}"


def machine(name: str, per_smmu: int, cpus: int = 4) -> Machine:
    """`per_smmu` root ports on each SMMU's root bus, an iommu-testdev behind each: see path()."""
    made = Machine(name, smmus=SMMUS, cpus=cpus, memory="1G", extra=MTTCG)
    for smmu in range(SMMUS):
        for n in range(per_smmu):
            port = smmu * per_smmu + n
            made.devices += [f"pcie-root-port,id=rp{port},bus=pcie.{smmu},addr={slot(n)},chassis={port},slot={port}",
                             f"{TESTDEV},bus=rp{port}"]
    return made


def slot(n: int) -> str:
    return f"{n + 16:x}"  # bus 0 has other devices, too


def path(smmu: int, n: int) -> str:
    """Of iommu-testdev n behind the SMMU."""
    return f"{smmu * 8:02x}:{slot(n)}.0/00.0"


def vm(name: str, bootargs: str, cpus: int, vsmmus: dict[str, tuple[range, list[tuple[int, int]]]], extra: str = "") -> str:
    """A VM of the manifest. `vsmmus`: name -> (backing SMMUs, devices as (SMMU, n)); `extra`: properties of each vSMMU."""
    units = "".join(f"{name}_{unit}: {unit} {{ backing = " + ", ".join(f'"{smmu_name(n)}"' for n in backing) +
                    f"; {extra} }};\n" for unit, (backing, _) in vsmmus.items())
    devices = "".join(f'{unit}-{smmu}-{n} {{ pci = "{path(smmu, n)}"; vsmmu = <&{name}_{unit}>; }};\n'
                      for unit, (_, devices) in vsmmus.items() for smmu, n in devices)
    count = sum(len(devices) for _, devices in vsmmus.values())
    return f"""
        {name} {{
            kernel = "fleet.bin";
            entry-offset = <0x0 0x0>;
            bootargs = "devices={count} cpus={cpus} {bootargs}";
            cpus = <{cpus}>;
            memory = <0x0 0x6000000>; // 96 MiB
            vsmmus {{ {units} }};
            devices {{ {devices} }};
        }};
"""


def manifest(*vms: str) -> str:
    return ('/dts-v1/;\n/ { compatible = "weir,manifest-v1"; exit = "semihosting"; vms {' + "".join(vms) + "}; };")


def work_done(result: Result, guest: str) -> dict[str, int]:
    """What the payload counted in that VM, by its words."""
    line = next((line for line in result.lines if line.startswith(f"{guest}| guest: fleet: changes ")), "")
    return {what: int(count) for what, count in re.findall(r"(?:: |, )([A-Za-z ]+) (\d+)", line)}


def run_one(name: str, properties: str = "", bootargs: str = "", image=IMAGE, time: float = 280, rounds: int = 400) -> Result:
    """One VM with four CPUs, 16 devices behind one vSMMU over all SMMUs, four behind another over some of them."""
    made = machine(name, 1)
    everything, some = range(SMMUS), range(4, 8)
    made.devices += [argument for smmu in some for argument in
                     (f"pcie-root-port,id=rs{smmu},bus=pcie.{smmu},addr={slot(1)},chassis={smmu + 64},slot={smmu + 64}",
                      f"{TESTDEV},bus=rs{smmu}")]
    text = manifest(vm("all", f"rounds={rounds} {bootargs}", 4, {
        "all": (everything, [(smmu, 0) for smmu in everything]), "some": (some, [(smmu, 1) for smmu in some])}, properties))
    return boot(made, text, {"fleet.bin": payload("fleet")}, image=image, limit=time)


def expect_worked(result: Result, guest: str, cpus: int, rounds: int) -> None:
    """All rounds were done, and they could have gone wrong: entries were stale until they were invalidated."""
    done = work_done(result, guest)
    log = f"(log: {result.path / 'console.log'})"
    assert done.get("changes", 0) >= cpus * rounds, f"{guest} made {done.get('changes')} changes {log}"
    for what in ("stale before SYNC", "repointed", "ASIDs recycled", "faults", "interrupts"):
        assert done.get(what, 0) > 0, f"{guest}: {what}: {done.get(what)} {log}"


@limit(300)
def test_sixteen_instances():
    rounds = 500
    result = run_one("fleet", rounds=rounds)
    expect_ok(result, "fleet")
    expect_handled(result)
    expect_worked(result, "all", 4, rounds)


PRECISE = 'invalidation = "precise"; no-global-pages;'


def tlbis(result: Result, vsmmu: str) -> tuple[int, dict[str, int]]:
    """TLB invalidations that the vSMMU has received, and how many of them each SMMU was sent, as the summary says."""
    received = re.search(rf"{vsmmu}: .*TLBIs received (\d+)", result.log)
    sent = re.findall(rf"{vsmmu} on (smmuv3@[0-9a-f]+): .*TLBIs sent (\d+)", result.log)
    assert received and sent, f"the summary does not count TLBIs (log: {result.path / 'console.log'})"
    return int(received[1]), {smmu: int(count) for smmu, count in sent}


@limit(300)
def test_sixteen_instances_precise():
    """The same, and each SMMU is spared the invalidations of ASIDs that are not used behind it."""
    rounds = 500
    result = run_one("fleet-precise", PRECISE, rounds=rounds)
    expect_ok(result, "fleet")
    expect_handled(result)
    expect_worked(result, "all", 4, rounds)
    received, sent = tlbis(result, "vsmmu all")
    assert all(0 < count < received * 3 // 4 for count in sent.values()), \
        f"of {received} TLBIs the SMMUs were sent {sent} (log: {result.path / 'console.log'})"


def run_flood(name: str, rounds: int = 150, time: float = 280) -> Result:
    """Two VMs at work and one that fills its command queues without end, all on the same 16 SMMUs, in different modes.
    Those at work begin when the flood has; it ends when they have."""
    made = machine(name, 3)
    everything = range(SMMUS)

    def units(n: int) -> dict[str, tuple[range, list[tuple[int, int]]]]:
        return {"all": (everything, [(smmu, n) for smmu in everything])}

    text = manifest(vm("one", f"rounds={rounds} wait vm=0", 2, units(0)),
                    vm("two", f"rounds={rounds} wait vm=1 late-events", 1, units(1), f"{PRECISE} late-events;"),
                    vm("flood", "flood vm=2", 1, units(2)))
    hot = "\x1d"
    return boot(made, text, {"fleet.bin": payload("fleet")}, limit=time, replies=[
        ("flood[|] guest: fleet: flooding", f"{hot}s"),  # the summary, of what is running
        ("weir: smmuv3@c1e0000: commands", f"{hot}0g{hot}1g"),
        ("(?s)(one[|] guest: fleet: OK.*two[|]|two[|] guest: fleet: OK.*one[|]) guest: fleet: OK", f"{hot}2q")])


# What Weir does at most between two instructions of a guest that floods: as docs/threat-model.md says.
LATEST = 400_000


@limit(120)
def test_flood_and_its_own_interrupts():
    """A guest that floods all instances takes its own interrupts in between. Counted in instructions (-icount), one for each ns."""
    made = machine("fleet-interrupts", 1, cpus=1)
    made.icount = True
    made.extra = []
    text = manifest(vm("flood", "flood=60000", 1, {"all": (range(SMMUS), [(smmu, 0) for smmu in range(SMMUS)])}))
    result = boot(made, text, {"fleet.bin": payload("fleet")}, limit=100)
    expect_ok(result, "fleet")
    said = re.search(r"timer (\d+) times, at most (\d+) ns late", result.log)
    assert said and int(said[1]) > 20, f"the timer did not tell (log: {result.path / 'console.log'})"
    assert int(said[2]) <= LATEST, f"an interrupt of the guest's own came {said[2]} ns late (log: {result.path / 'console.log'})"


@limit(300)
def test_flood():
    """Neither wrong nor stuck: what the others do goes on beside a flood."""
    rounds = 150
    result = run_flood("fleet-flood", rounds=rounds)
    expect_handled(result)
    log = f"(log: {result.path / 'console.log'})"
    for name, cpus in (("one", 2), ("two", 1)):
        lines = [line.removeprefix(f"{name}| ") for line in result.lines if line.startswith(f"{name}| ")]
        assert "guest: fleet: OK" in lines, f"VM {name} did not end well: {lines[-1:]} {log}"
        expect_worked(result, name, cpus, rounds)
    flood = [line for line in result.lines if line.startswith("flood| guest: fleet: flooded")]
    assert flood, f"the flood did not end {log}"
    count = int(flood[0].split()[-2])
    assert count > 10000, f"a flood of {count} commands {log}"
    expect_ok(result, "fleet")


@limit(160)
def test_flood_of_faults():
    """A device that does nothing but fault, and a guest that repairs it all the time: as many events are delivered as its budget
    allows. Another VM's SYNCs, on the same SMMU, are as fast as ever, counted in instructions (-icount: one for each ns; but for the
    few that fall into the other CPU's turn)."""
    made = Machine("fleet-faults", smmus=1, cpus=2, memory="512M", icount=True)
    for n in range(2):
        made.devices += [f"pcie-root-port,id=rp{n},bus=pcie.0,addr={slot(n)},chassis={n},slot={n}", f"{TESTDEV},bus=rp{n}"]
    text = manifest(vm("victim", "rounds=10000 measure wait vm=0", 1, {"all": (range(1), [(0, 0)])}),
                    vm("flood", "faults wait vm=1", 1, {"all": (range(1), [(0, 1)])}))
    hot = "\x1d"
    result = boot(made, text, {"fleet.bin": payload("fleet")}, limit=140, replies=[
        ("(?s)guest: fleet: ready.*guest: fleet: ready", f"{hot}0g{hot}1g"), (r"SYNCs \d+, late .* ns", f"{hot}1q")])
    log = f"(log: {result.path / 'console.log'})"
    expect_ok(result, "fleet")
    events = re.search(r"weir: vm flood vsmmu all: exits .*; events (\d+) \(lost (\d+)\)", result.log)
    ticks = re.search(r"ticks of the clock for late work: (\d+)", result.log)
    assert events and int(events[1]) + int(events[2]) > 16384, f"no flood {log}"
    most = 16384 + 512 * int(ticks[1] if ticks else 0) + 600  # and what is in the physical queue
    assert int(events[1]) + int(events[2]) <= most, f"{events[1]} events and {events[2]} lost; the budget is {most} {log}"
    late = re.search(r"SYNCs (\d+), late (\d+)", result.log)
    assert late and int(late[2]) <= int(late[1]) // 100, f"{late and late[0]} {log}"
