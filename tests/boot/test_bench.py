"""The benchmark's machinery: what it measures repeats exactly, and nothing costs several times what it should."""
import sys

from boot import REPOSITORY, limit, needs

sys.path.insert(0, str(REPOSITORY / "tests/bench"))

# Far above the aims of docs/performance.md: an accident, and not a few instructions more.
CEILINGS = {"trap.null": 1200, "inv.single": 3500, "batch.64": 40_000, "cfgi.ste": 8000, "cfgi.cd": 5000, "event.forward": 4000}


@needs("build/bench/count.so")
@limit(90)
def test_repeats():
    from run import on_one
    first, second = on_one(), on_one()
    assert first.by_key == second.by_key, \
        f"two runs differ: {sorted(set(first.by_key.items()) ^ set(second.by_key.items()))[:4]}"
    for key, ceiling in CEILINGS.items():
        assert first[key] <= ceiling, f"{key} takes {first[key]} instructions, more than {ceiling}"
