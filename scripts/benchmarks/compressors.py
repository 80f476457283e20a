"""What compressors make of a program's pages: the figures of mmfs.mm.zswap.COMPRESSORS.

    pip install lz4 zstandard python-lzo;  python scripts/benchmarks/compressors.py

Takes the pages of this process's own heap and data that are not all zero, and prints for each compressor to how much
of their size they compress, how that compares with lz4, and how long a page takes.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PAGE = 4096


def pages() -> list[bytes]:
    """Pages that this process can write to."""
    kept: list[Any] = [str(number) * 3 for number in range(300_000)]
    found: list[bytes] = []
    with Path("/proc/self/maps").open() as maps, Path("/proc/self/mem").open("rb") as memory:
        for line in maps:
            words = line.split()
            if "rw" not in words[1] or "stack" in line:
                continue
            start, end = (int(word, 16) for word in words[0].split("-"))
            memory.seek(start)
            data = memory.read(end - start)
            found += [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    del kept
    found = [page for page in found if any(page)]
    random.Random(1).shuffle(found)
    return found[:4000]


def codecs() -> dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """Compress and decompress of each that is installed."""
    made: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {}
    lz4, lzo, zstd = import_module("lz4.block"), import_module("lzo"), import_module("zstandard")
    for name, mode in (("lz4", "default"), ("lz4hc", "high_compression")):
        made[name] = (
            lambda page, mode=mode: lz4.compress(page, mode=mode, store_size=False),  # type: ignore[misc]
            lambda data: lz4.decompress(data, uncompressed_size=PAGE),
        )
    made["lzo"] = (lambda page: lzo.compress(page, 1, False), lambda data: lzo.decompress(data, False, PAGE))
    made["zstd"] = (zstd.ZstdCompressor(level=3).compress, zstd.ZstdDecompressor().decompress)
    made["deflate"] = (lambda page: zlib.compress(page, 6), zlib.decompress)
    return made


def best_ns(function: Callable[[bytes], bytes], data: list[bytes]) -> tuple[float, list[bytes]]:
    """The best of three passes, in ns a page, and what came of it."""
    best, made = float("inf"), data
    for _ in range(3):
        begin = time.perf_counter_ns()
        made = [function(one) for one in data]
        best = min(best, (time.perf_counter_ns() - begin) / len(data))
    return best, made


def main() -> None:
    """A line a compressor."""
    data, of_lz4 = pages(), 0.0
    print(f"{len(data)} pages")
    for name, (compress, decompress) in codecs().items():
        took, made = best_ns(compress, data)
        size = sum(min(len(one), PAGE) for one in made) / len(made) / PAGE
        back, _ = best_ns(decompress, made)
        of_lz4 = of_lz4 or size
        print(f"{name:8} to {size:.3f}, {size / of_lz4:.2f} of lz4; {took:.0f} ns, back {back:.0f} ns")


if __name__ == "__main__":
    main()
