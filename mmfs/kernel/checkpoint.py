"""A whole machine as bytes: what `pickle.dumps(kernel)` gives, and `copy.deepcopy(kernel)` goes through.

A kernel keeps all of its state in objects, never in a stack frame, so it can be saved whenever no call is under way. It
goes on from there byte for byte as the original would have: two copies are two possible futures of one machine. Files
that are open through `kernel.vfs` belong to whoever has opened them and are not part of it; the tree of files is hung
in again when the first of them is looked at. What was saved is for the same version of mmfs, built the same way.

Most objects pickle themselves. Arrays need care, because the model looks at the same memory through many of them: each
is saved as a view of the memory that owns its data, and that once. Of memory that is committed when it is touched
(`fastpath.frames.lazy_array()`), only the pages that hold something are saved, so terabytes cost what they use.
"""

from __future__ import annotations

import copyreg
import io
import mmap
import os
import pickle
import sys
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from mmfs.fastpath import frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel

T = TypeVar("T")

PAGE: Final = mmap.PAGESIZE
PRESENT_OR_SWAPPED: Final = 62
"""The first of the two bits of an entry of the host's pagemap that say that a page exists."""
WINDOW: Final = 1 << 20
"""Pages looked at in one read of pagemap."""
STACK_BYTES: Final = 512 << 20
"""Pickling follows references as deep as they go: from task to task, from timer to timer."""
OF_THE_TREE: Final = ("_vfs", "caller")


# -- arrays --------------------------------------------------------------------------------------------------------


def make_view(kind: type, memory: Any, offset: int, shape: Any, strides: Any, dtype: Any) -> Any:
    """An array over memory that others look at too."""
    array: Any = np.ndarray(shape, dtype, memory, offset, strides)
    return array if kind is np.ndarray else array.view(kind)


def make_row(row: NDArray[Any]) -> Any:
    """A record within an array."""
    return row[0]


def make_lazy(size: int, pages: NDArray[np.int64], content: NDArray[np.uint64]) -> Any:
    """Memory of `size` bytes that is zero but for some pages."""
    area = frames.lazy_area(size)
    if len(pages):
        np.frombuffer(area, np.uint64).reshape(-1, PAGE // 8)[pages] = content
    return area


def make_mapping(content: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    """A dictionary that nobody changes."""
    return MappingProxyType(content)


def pages_with_content(area: mmap.mmap) -> NDArray[np.int64]:
    """The numbers of the pages that hold something but zeroes; those that nobody touched stay untouched."""
    words = np.frombuffer(area, np.uint64).reshape(-1, PAGE // 8)
    first = address(words) // PAGE
    found = []
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        for start in range(0, len(words), WINDOW):
            count = min(WINDOW, len(words) - start)
            entries = np.frombuffer(os.pread(descriptor, count * 8, (first + start) * 8), np.uint64)
            touched = start + np.flatnonzero(entries >> np.uint64(PRESENT_OR_SWAPPED))
            found.append(touched[words[touched].any(axis=1)])
    finally:
        os.close(descriptor)
    return np.concatenate(found)


def reduce_area(area: mmap.mmap) -> tuple[Any, ...]:
    """How lazily committed memory is saved."""
    pages = pages_with_content(area)
    content = np.frombuffer(area, np.uint64).reshape(-1, PAGE // 8)[pages]
    return make_lazy, (len(area), pages, content)


def address(array: NDArray[Any]) -> int:
    """Where an array's first element lies."""
    where: int = array.__array_interface__["data"][0]
    return where


def owns_data(array: NDArray[Any]) -> bool:
    """Whether nobody else keeps its data; one that was unpickled may keep them in the bytes it was made from."""
    return array.base is None or isinstance(array.base, bytes)


def reduce_array(array: NDArray[Any], of: NDArray[Any]) -> tuple[Any, ...]:
    """How an array is saved that looks at the memory of another, or at memory that is no array's: as such a view."""
    while isinstance(of.base, np.ndarray):
        of = of.base
    memory: Any = of
    if not owns_data(of):
        memory = of.base.obj if isinstance(of.base, memoryview) else of.base
        of = np.frombuffer(memory, np.uint8)
    return make_view, (type(array), memory, address(array) - address(of), array.shape, array.strides, array.dtype)


# -- the whole -------------------------------------------------------------------------------------------------------


class Pickler(pickle.Pickler):
    """Saves the objects of a kernel."""

    def __init__(self, file: io.BytesIO, kernel: Kernel) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.kernel = kernel

    def reducer_override(self, obj: Any) -> Any:
        """What needs more than its own way to be saved."""
        kind = type(obj)
        if obj is self.kernel:
            state = {name: value for name, value in vars(obj).items() if name not in OF_THE_TREE}
            return copyreg.__newobj__, (kind,), state | {"_vfs": None}  # type: ignore[attr-defined]
        if isinstance(obj, np.ndarray):
            return obj.__reduce__() if owns_data(obj) else reduce_array(obj, obj)
        if issubclass(kind, np.void) and obj.base is not None:  # a record that looks into its array
            where = address(np.frombuffer(obj, np.uint8)) - address(obj.base)
            row = np.ndarray((1,), obj.dtype, obj.base, where)
            return make_row, (row,)
        if kind.__name__ == "_memoryviewslice":  # an attribute of a compiled class
            return reduce_array(np.asarray(obj).view(obj.base.dtype), obj.base)
        if kind is mmap.mmap:
            return reduce_area(obj)
        if kind is MappingProxyType:
            return make_mapping, (dict(obj),)
        return NotImplemented


def _with_deep_stack(work: Callable[[], T]) -> T:
    """Run `work` where recursion may go deep."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    before, size = sys.getrecursionlimit(), threading.stack_size(STACK_BYTES)
    sys.setrecursionlimit(1_000_000)
    try:
        thread = threading.Thread(target=run, name="mmfs-checkpoint")
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(before)
        threading.stack_size(size)
    if failure:
        raise failure[0]
    return result[0]


def save(kernel: Kernel) -> bytes:
    """The kernel as bytes; RuntimeError from within a wakeup, whose stack frame cannot be saved."""
    if kernel.clock.running:
        raise RuntimeError("a kernel cannot be saved while a wakeup is being served")
    file = io.BytesIO()
    _with_deep_stack(lambda: Pickler(file, kernel).dump(kernel))
    return file.getvalue()


def restore(data: bytes) -> Kernel:
    """The kernel that `save()` has saved."""
    kernel: Kernel = _with_deep_stack(lambda: pickle.loads(data))
    return kernel
