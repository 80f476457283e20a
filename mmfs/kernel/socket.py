# mypy: disable-error-code="misc"
"""Sockets, as far as memory sees them: datagrams that wait to be received.

A socket is a UDP socket on the loopback device, connected to itself: what `send` puts in, `recv` takes out. Each
datagram takes a head from the slab (`skbuff_head_cache`), its data (`skbuff_small_head`, kmalloc; above 16 KB pieces of
the sending task's blocks of 32 KB) and counts with its true size, that of both. The protocol accounts for whole pages
(`mem` of its sysctl is the limit of them all), which are charged to the cgroup in which the socket was made
(mm/memcg_sock.py): these are `sock` in memory.stat. A datagram for which there is no room is dropped, and `send`
succeeds.

Linux: net/socket.c, net/core/sock.c, net/core/skbuff.c, net/ipv4/udp.c, net/ipv4/ip_output.c.

Simplified: no other protocols, no network, no addresses, and send never has to wait for room to write.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.kernel.namei import O_NONBLOCK, O_RDWR, OpenFile
from mmfs.kernel.sched import CAP_NET_ADMIN, RLIMIT_NOFILE
from mmfs.mm import memcg_sock
from mmfs.mm.inode import Inode
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE
from mmfs.mm_types import GFP_COMP_BIT, GFP_KERNEL, GFP_NORETRY_BIT, GFP_NOWARN_BIT, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup

SO_RCVBUF: Final = 8
SO_RCVBUFFORCE: Final = 33
SOCKFS_DEV: Final = (0, 8)
RMEM_DEFAULT: Final = 212_992
RMEM_MAX: Final = 212_992
"""net.core.rmem_default and rmem_max."""
SOCK_MIN_RCVBUF: Final = 2304
UDP_RMEM_MIN: Final = 4096
MAX_DATAGRAM: Final = 65_507
HEADERS: Final = 28
"""Of IP and UDP."""
LINK_HEADROOM: Final = 16 + 15
SHINFO: Final = 320
SK_BUFF: Final = 256
"""Bytes of struct skb_shared_info, at the end of a head's data, and of struct sk_buff."""
SMALL_HEAD: Final = 704
SKB_MAX_ALLOC: Final = (PAGE_SIZE << 2) - SHINFO
FRAG_ORDER: Final = 3
SOCKET_OBJECTS: Final = ("sock_inode_cache", "lsm_inode_cache", "dentry", "UDP")


class SkBuff(NamedTuple):
    """A datagram: its length, what it counts for, its objects of the slab, the blocks that its data is in."""

    length: int
    truesize: int
    objects: tuple[int, ...]
    frags: tuple[int, ...]


class PageFrag:
    """Blocks of 32 KB out of which tasks cut data of large datagrams, by who uses them. Linux: struct page_frag."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.users: dict[int, int] = {}
        """How many hold each block, which is named by its first frame."""
        self.orders: dict[int, int] = {}
        self.of_tasks: dict[Task, tuple[int, int]] = {}
        """The block that a task cuts from at present, and up to where it has."""

    def take(self, task: Task, size: int) -> tuple[int, ...]:
        """Room for `size` bytes: in which blocks; empty if there is no memory. Linux: skb_page_frag_refill()."""
        frags: list[int] = []
        while size:
            pfn, offset = self.of_tasks.get(task, (0, 0))
            room = (PAGE_SIZE << self.orders[pfn]) - offset if pfn else 0
            if room < 32:
                if not self._refill(task):
                    for one in frags:
                        self.put(one)
                    return ()
                continue
            part = min(room, size)
            self.of_tasks[task] = pfn, offset + part
            if pfn not in frags:
                self.users[pfn] += 1
                frags.append(pfn)
            size -= part
        return tuple(frags)

    def _refill(self, task: Task) -> bool:
        pfn, _ = self.of_tasks.get(task, (0, 0))
        if pfn and self.users[pfn] == 1:
            self.of_tasks[task] = pfn, 0
            return True
        self.release(task)
        page_alloc = self.kernel.page_alloc
        for order, gfp in ((FRAG_ORDER, GFP_COMP_BIT | GFP_NOWARN_BIT | GFP_NORETRY_BIT), (0, 0)):
            pfn = page_alloc.alloc_pages(GFP_KERNEL | gfp, order)
            if pfn >= 0:
                self.users[pfn], self.orders[pfn] = 1, order
                self.of_tasks[task] = pfn, 0
                return True
        return False

    def put(self, pfn: int) -> None:
        """One user less. Linux: put_page()."""
        self.users[pfn] -= 1
        if not self.users[pfn]:
            del self.users[pfn]
            self.kernel.page_alloc.free_pages(pfn, self.orders.pop(pfn))

    def release(self, task: Task) -> None:
        """The task is done with its block. Linux: kernel/exit.c, do_exit()."""
        if (held := self.of_tasks.pop(task, None)) is not None:
            self.put(held[0])


class UdpProto:
    """What all sockets share. ``mem``: net.ipv4.udp_mem, in pages. Linux: struct proto udp_prot, udp_mem."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.page_frag = PageFrag(kernel)
        self.sockets: dict[int, Socket] = {}
        self.memory_allocated = 0
        self._next_ino = 1
        limit = max(kernel.page_alloc.nr_free_buffer_pages() // 8, 128)
        self.mem = limit // 4 * 3, limit, limit // 4 * 3 * 2

    def alloc_skb(self, task: Task, length: int) -> SkBuff | None:
        """A datagram of `length` bytes, None if there is no memory. Linux: __ip_append_data(), __alloc_skb()."""
        slab, fraglen, paged = self.kernel.slab, length + HEADERS, 0
        if fraglen + LINK_HEADROOM >= SKB_MAX_ALLOC:
            fraglen, paged = HEADERS, length
        size = -(-(fraglen + LINK_HEADROOM) // 64) * 64 + SHINFO
        head = slab.alloc("skbuff_head_cache")
        data = slab.alloc("skbuff_small_head") if size <= SMALL_HEAD else slab.kmalloc(size)
        frags = self.page_frag.take(task, paged) if head and data else ()
        if not head or not data or (paged and not frags):
            self._free(tuple(obj for obj in (head, data) if obj), frags)
            return None
        room = SMALL_HEAD if size <= SMALL_HEAD else 1 << (size - 1).bit_length()
        return SkBuff(length, room + SK_BUFF + paged, (head, data), frags)

    def _free(self, objects: tuple[int, ...], frags: tuple[int, ...]) -> None:
        for obj in objects:
            self.kernel.slab.kfree(obj)
        for pfn in frags:
            self.page_frag.put(pfn)

    def kfree_skb(self, skb: SkBuff) -> None:
        """Linux: kfree_skb()."""
        self._free(skb.objects, skb.frags)

    def new_ino(self) -> int:
        """Linux: fs/inode.c, get_next_ino()."""
        self._next_ino += 1
        return self._next_ino - 1


class Socket(Inode):
    """A socket, and its file in sockfs. Linux: struct socket, struct sock, struct udp_sock."""

    def __init__(self, proto: UdpProto, task: Task) -> None:
        kernel = task.kernel
        ino = proto.new_ino()
        super().__init__(kernel, ino, SOCKFS_DEV, path=f"socket:[{ino}]", mode=0o140777, uid=task.uid, gid=task.gid)
        self.proto = proto
        self.memcg: MemCgroup | None = memcg_sock.sk_alloc(kernel.memcgs, task)
        self.objects = [kernel.slab.alloc(name, force=True) for name in SOCKET_OBJECTS if name in kernel.slab]
        self.rcvbuf = RMEM_DEFAULT
        self.rmem_alloc = 0
        """True sizes of what waits, and of what was received and is not given back yet."""
        self.forward_alloc = 0
        """Bytes that are accounted for and hold nothing yet."""
        self.forward_deficit = 0
        self.pages = 0
        self.receive_queue: deque[SkBuff] = deque()
        self.reader_queue: deque[SkBuff] = deque()
        proto.sockets[ino] = self

    def _evict_if_unused(self) -> None:
        """Nobody has it open any more. Linux: udp_destruct_sock(), sk_free()."""
        if self.i_count:
            return
        queued = [*self.reader_queue, *self.receive_queue]
        self.reader_queue.clear()
        self.receive_queue.clear()
        for skb in queued:
            self.proto.kfree_skb(skb)
        self._rmem_release(sum(skb.truesize for skb in queued), partial=False)
        if self.memcg is not None:
            self.memcg.css_put()
        for obj in self.objects:
            self.kernel.slab.free_if(obj)
        del self.proto.sockets[self.ino]
        self.i_nlink = 0
        super()._evict_if_unused()

    def enqueue(self, skb: SkBuff) -> None:
        """A datagram has arrived; it is dropped if there is no room. Linux: __udp_enqueue_schedule_skb()."""
        full = self.rmem_alloc + skb.truesize > self.rcvbuf and self.rmem_alloc > self.rcvbuf
        self.rmem_alloc += skb.truesize
        if full or not self._rmem_schedule(skb.truesize):
            self.rmem_alloc -= skb.truesize
            self.proto.kfree_skb(skb)
            return
        self.forward_alloc -= skb.truesize
        self.receive_queue.append(skb)

    def _rmem_schedule(self, size: int) -> bool:
        """Account for what is not yet; whether it may be. Linux: udp_rmem_schedule(), __sk_mem_raise_allocated()."""
        nr_pages = -(-(size - self.forward_alloc) // PAGE_SIZE)
        if nr_pages <= 0:
            return True
        proto, allocated = self.proto, self.proto.memory_allocated + nr_pages
        if allocated > proto.mem[2] or (allocated > proto.mem[0] and self.rmem_alloc >= UDP_RMEM_MIN):
            return False
        if self.memcg is not None and not memcg_sock.charge_skmem(self.memcg, nr_pages):
            return False
        proto.memory_allocated = allocated
        self.pages += nr_pages
        self.forward_alloc += nr_pages << PAGE_SHIFT
        return True

    def dequeue(self) -> SkBuff | None:
        """The datagram that has waited longest. Linux: __skb_recv_udp()."""
        if not self.reader_queue:
            self._refill_reader_queue()
        if not self.reader_queue:
            return None
        skb = self.reader_queue.popleft()
        self._rmem_release(skb.truesize, partial=True)
        self.proto.kfree_skb(skb)
        return skb

    def _refill_reader_queue(self) -> None:
        self.reader_queue.extend(self.receive_queue)
        self.receive_queue.clear()

    def _rmem_release(self, size: int, partial: bool) -> None:
        """Give pages back, once that is worth it; the last one stays if `partial`. Linux: udp_rmem_release()."""
        size += self.forward_deficit
        if partial and size < self.rcvbuf >> 2 and self.reader_queue:
            self.forward_deficit = size
            return
        self.forward_deficit = 0
        nr_pages = (size + self.forward_alloc - partial) >> PAGE_SHIFT
        self.forward_alloc += size - (nr_pages << PAGE_SHIFT)
        self.rmem_alloc -= size
        if nr_pages:
            self.proto.memory_allocated -= nr_pages
            self.pages -= nr_pages
            if self.memcg is not None:
                memcg_sock.uncharge_skmem(self.memcg, nr_pages)
        self._refill_reader_queue()


class SocketSyscalls:
    """The calls on sockets; `Task` inherits them."""

    __slots__ = ()

    def socket(self: Task) -> int:
        """socket(2), bind(2) and connect(2): a datagram socket that is its own peer."""
        files = self._files()
        fd = files.get_unused_fd(self.rlimit(RLIMIT_NOFILE))
        proto = self.kernel.udp_prot
        files.install(fd, OpenFile(Socket(proto, self), FMODE_READ | FMODE_WRITE, O_RDWR | O_NONBLOCK))
        self._check_killed()
        return fd

    def _socket(self: Task, fd: int) -> Socket:
        inode = self._fd(fd).inode
        if not isinstance(inode, Socket):
            raise OSError(errno.ENOTSOCK, f"{fd} is not a socket")
        return inode

    def setsockopt(self: Task, fd: int, optname: int, value: int) -> None:
        """setsockopt(2): SO_RCVBUF and SO_RCVBUFFORCE, half of what datagrams that wait may count for."""
        sock = self._socket(fd)
        if optname not in (SO_RCVBUF, SO_RCVBUFFORCE):
            raise OSError(errno.ENOPROTOOPT, f"option {optname}")
        if optname == SO_RCVBUFFORCE and not self.capable(CAP_NET_ADMIN):
            raise OSError(errno.EPERM, "needs CAP_NET_ADMIN")
        room = min(value, RMEM_MAX) if optname == SO_RCVBUF else max(value, 0)
        sock.rcvbuf = max(min(room, (1 << 30) - 1) * 2, SOCK_MIN_RCVBUF)

    def send(self: Task, fd: int, length: int) -> int:
        """send(2): a datagram of so many bytes."""
        sock = self._socket(fd)
        if length > MAX_DATAGRAM:
            raise OSError(errno.EMSGSIZE, f"a datagram has at most {MAX_DATAGRAM} bytes")
        skb = sock.proto.alloc_skb(self, length)
        if skb is None:
            raise OSError(errno.ENOBUFS, "no memory for a datagram")
        sock.enqueue(skb)
        self._check_killed()
        return length

    def recv(self: Task, fd: int) -> int:
        """recv(2): the length of the datagram that has waited longest; EAGAIN if there is none."""
        skb = self._socket(fd).dequeue()
        if skb is None:
            raise OSError(errno.EAGAIN, "nothing to receive")
        return skb.length
