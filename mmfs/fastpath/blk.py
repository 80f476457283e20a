# cython: language_level=3
"""A disk's queue: how long a request takes, and the counters of /proc/diskstats.

A request waits for the transfers before it, moves the heads if it does not go on where the last one ended, is
transferred, and is answered a latency later; latencies overlap, transfers do not. So done times only grow.

Linux: block/blk-core.c, submit_bio(); block/blk-mq.c, blk_account_io_done().

Simplified: requests are served in the order in which they come, whatever the scheduler; a disk keeps no cache.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_WAITING = cython.declare(cython.long, 1024)
_READ = cython.declare(cython.int, 0)
_WRITE = cython.declare(cython.int, 1)
_FLUSH = cython.declare(cython.int, 3)
_IOS = cython.declare(cython.int, 0)
_MERGES = cython.declare(cython.int, 1)
_SECTORS = cython.declare(cython.int, 2)
_NSECS = cython.declare(cython.int, 3)


class Disk:
    """One disk. ``stats`` [op, (requests, merges, sectors, ns)] int64; speeds in ns, and in ps a sector.

    ``io_pages``: the largest request.
    """

    def __init__(self, vmstat):
        self.stats = np.zeros((4, 4), np.int64)
        self.stat = view(self.stats)
        self.event = view(vmstat.event)
        self.done_ns = view(np.zeros(_WAITING, np.int64))
        self.done_requests = view(np.zeros(_WAITING, np.int64))
        self.oldest = self.nr_waiting = self.requests_waiting = 0
        self.head = 0
        self.transfers_end = self.busy_end = self.busy_ns = 0
        self.seek_ns = self.latency_ns = self.request_ns = self.flush_ns = 0
        self.read_ps = self.write_ps = 0
        self.io_pages = 1 << 20

    def account(self, op, nr_sectors, nr_bios, nr_requests, now_ns, sector=-1):
        """Put requests into the queue that lie one after another from ``sector`` on (-1: anywhere); when they are done.

        ``nr_bios`` pieces were handed in, which merged into ``nr_requests``.
        """
        begin: cython.long = max(now_ns, self.transfers_end)
        done: cython.long
        at: cython.long
        if op == _FLUSH:
            begin += self.flush_ns
        elif sector < 0 or sector != self.head:
            begin += self.seek_ns
        if sector >= 0:
            self.head = sector + nr_sectors
        elif nr_sectors:
            self.head = -1
        begin += nr_requests * self.request_ns
        self.transfers_end = begin + nr_sectors * (self.read_ps if op == _READ else self.write_ps) // 1000
        done = self.transfers_end + self.latency_ns
        self.stat[op, _IOS] += nr_requests
        self.stat[op, _MERGES] += nr_bios - nr_requests
        self.stat[op, _SECTORS] += nr_sectors
        self.stat[op, _NSECS] += (done - now_ns) * nr_requests
        self.busy_ns += done - max(now_ns, self.busy_end)
        self.busy_end = done
        if self.nr_waiting == _WAITING:
            self.in_flight(now_ns)
        if self.nr_waiting < _WAITING:
            at = (self.oldest + self.nr_waiting) & (_WAITING - 1)
            self.nr_waiting += 1
            self.done_requests[at] = 0
        else:  # too many to be told apart: with the last
            at = (self.oldest + self.nr_waiting - 1) & (_WAITING - 1)
        self.done_ns[at] = done
        self.done_requests[at] += nr_requests
        self.requests_waiting += nr_requests
        return done

    def submit(self, op, nr_sectors, nr_bios, nr_requests, now_ns, sector=-1):
        """Ask for sectors and count them as page traffic; when they are done. Linux: submit_bio()."""
        if op == _READ:
            self.event[PGPGIN] += nr_sectors
        elif op == _WRITE:
            self.event[PGPGOUT] += nr_sectors
        return self.account(op, nr_sectors, nr_bios, nr_requests, now_ns, sector)

    def count(self, op, nr_sectors, nsec):
        """A request that is done at once, on no queue. Linux: bio_start_io_acct(), bio_end_io_acct()."""
        self.event[PGPGIN if op == _READ else PGPGOUT] += nr_sectors
        self.stat[op, _IOS] += 1
        self.stat[op, _SECTORS] += nr_sectors
        self.stat[op, _NSECS] += nsec
        self.busy_ns += nsec

    def sectors_read(self):
        """Sectors that were asked for so far."""
        return self.stat[_READ, _SECTORS]

    def reset_stats(self):
        """Count from 0 on. Linux: part_stat_set_all()."""
        self.stats[:] = 0
        self.busy_ns = 0

    def in_flight(self, now_ns):
        """Requests that have not been answered yet. Linux: block/genhd.c, bdev_count_inflight()."""
        while self.nr_waiting and self.done_ns[self.oldest] <= now_ns:
            self.requests_waiting -= self.done_requests[self.oldest]
            self.oldest = (self.oldest + 1) & (_WAITING - 1)
            self.nr_waiting -= 1
        return self.requests_waiting

    def io_ns(self, now_ns):
        """How long requests were in flight until now."""
        return self.busy_ns - max(self.busy_end - now_ns, cython.cast(cython.long, 0))
