"""The size of the image, and of what is Weir's own in it: everything but Capstone, mimalloc, libfdt and the C library."""
from __future__ import annotations

import re
import subprocess

from machines import IMAGE, REPOSITORY, Failure

MAP = REPOSITORY / "build/weir.map"
THIRD_PARTY = ("libcapstone.a", "libmimalloc.a", "libc.a")
LOADED = (".text", ".rodata", ".init_array", ".tdata", ".data")  # what is in the file: .bss is not


def _strings(path: str) -> int:
    """Bytes of string constants in an object file or an archive: the linker merges those of all files into one."""
    text = subprocess.run(["llvm-readelf-19", "-SW", path], capture_output=True, text=True, check=True).stdout
    return sum(int(size, 16) for size in re.findall(r"\] \.rodata\.str\S*\s+PROGBITS\s+[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+)", text))


def image() -> dict[str, int]:
    """image.bytes; image.own_bytes, in which libfdt counts as Weir's, and padding, as nobody else's; and by owner."""
    owners: dict[str, int] = {}
    section, merged, objects = "", 0, set()
    # VMA, LMA, size, alignment, then an output section at the margin, an input section indented by 8, a symbol by 16.
    line_of_map = re.compile(r"\s*[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s+\d+ (\s*)(.*)")
    for line in MAP.read_text().splitlines()[1:]:
        if not (match := line_of_map.match(line)):
            continue
        size, indent, what = int(match[1], 16), len(match[2]), match[3]
        if indent == 0:
            section = what
        elif indent == 8 and section in LOADED and ":(" in what:
            if what.startswith("<internal>:(.rodata.str"):
                merged += size
                continue
            owner = next((name for name in (*THIRD_PARTY, "libfdt.a") if f"{name}(" in what), "weir")
            owners[owner] = owners.get(owner, 0) + size
            if owner == "weir":
                objects.add(what.split(":(")[0])
    if "weir" not in owners or "libcapstone.a" not in owners:
        raise Failure(f"{MAP} is not a map that can be read")
    # Merged strings: Weir's share is what its files have of them, which is too much rather than too little.
    own = sum(_strings(str(REPOSITORY / name)) for name in objects if (REPOSITORY / name).is_file())
    owners["weir"] += min(own, merged)
    owners["libcapstone.a"] += merged - min(own, merged)
    size = IMAGE.stat().st_size
    return {"image.bytes": size, "image.own_bytes": owners["weir"] + owners.get("libfdt.a", 0)} | {
        f"image.{owner}": n for owner, n in sorted(owners.items())}
