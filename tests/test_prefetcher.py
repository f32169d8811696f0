"""Work ahead of its turn."""

from gaussiantalker_ns.data.prefetcher import Prefetcher


def test_prefetcher_prepares_ahead_and_follows_jumps():
    prepared = []
    prefetcher = Prefetcher(lambda step: prepared.append(step) or step * 10, 2, 1)
    assert [prefetcher.get(step) for step in (0, 1, 50, 51, 3)] == [0, 10, 500, 510, 30]
    prefetcher.close()
    assert prepared.count(1) == prepared.count(50) == 1
    assert set(prepared) <= {0, 1, 2, 3, 4, 5, 50, 51, 52, 53}
