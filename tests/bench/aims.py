"""The keys of the benchmark, what each is, and its aim."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

NUMBERS = (1, 2, 4, 8, 16)  # of SMMUs behind one vSMMU
BATCHES = (2, 4, 8, 16, 32, 64, 96, 127)  # commands in one exit
VMS = (1, 2, 4, 8)
BOOT_BEFORE = 61_820_416  # boot.to_guest before anything was done about it
Keys = dict[str, float]


@dataclass(frozen=True)
class Aim:
    text: str
    met: Callable[[Keys, str], bool | None]  # None: there is none, or it cannot be said


def at_most(limit: float, text: str = "") -> Aim:
    return Aim(text or f"<= {limit:,.10g}", lambda keys, key: keys[key] <= limit)


def _per_instance(limit: float) -> Aim:
    """`limit` more for each instance, from one instance on."""
    def met(keys: Keys, key: str) -> bool | None:
        family, n = key.rsplit(".", 1)
        one = keys.get(f"{family}.1")
        return None if one is None or n == "1" else keys[key] - one <= limit * (int(n) - 1)
    return Aim(f"<= {limit:g} per further instance", met)


def _flat(percent: float, text: str) -> Aim:
    def met(keys: Keys, key: str) -> bool | None:
        family, n = key.rsplit(".", 1)
        one = keys.get(f"{family}.1")
        return None if one is None or n == "1" else abs(keys[key] - one) <= one * percent / 100
    return Aim(text, met)


REPORT = Aim("report", lambda keys, key: None)

# By key, or by what a key begins with.
AIMS: dict[str, Aim] = {
    "trap.null": at_most(250),
    "inv.single": at_most(700),
    "inv.batch64.per_command": at_most(70),
    "mmio.": REPORT,
    "barriers.": REPORT,
    "inv.exits_per_sync": Aim("1.00", lambda keys, key: round(keys[key], 2) == 1.0),
    "fanout.precise.": _flat(5, "16 within 5 % of 1"),
    "fanout.precise_late.": _flat(5, "16 within 5 % of 1"),
    "fanout.strict.": _per_instance(200),
    "s2.unmap.": _per_instance(250),
    "s2.table_bytes.": _flat(0, "the same for all"),
    "cfgi.ste": REPORT,
    "cfgi.cd": REPORT,
    "event.forward": REPORT,
    "linux.read4k.ratio": at_most(1.05),
    "linux.read4k.vsmmu_extra": at_most(2500),
    "boot.to_guest": at_most(BOOT_BEFORE // 2, f"<= {BOOT_BEFORE / 2e6:.1f} M, half of what it was"),
    "image.bytes": at_most(1.5 * 2**20, "<= 1.5 MiB"),
    "image.own_bytes": at_most(200 * 2**10, "<= 200 KiB"),
}


def aim_of(key: str) -> Aim:
    if key in AIMS:
        return AIMS[key]
    return next((aim for start, aim in AIMS.items() if start.endswith(".") and key.startswith(start)), REPORT)


def verdict(keys: Keys, key: str) -> str:
    met = aim_of(key).met(keys, key)
    return {True: "met", False: "MISSED", None: ""}[met]


def order(key: str) -> tuple[int, list]:
    """Sorts keys as the table has them."""
    starts = list(AIMS)
    at = next((i for i, start in enumerate(starts) if key == start or start.endswith(".") and key.startswith(start)), len(starts))
    return at, [(int(part), "") if part.isdigit() else (0, part) for part in key.split(".")]


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if value != round(value, 2) and value < 10 else f"{value:,.2f}"
