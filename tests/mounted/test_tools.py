"""Unmodified tools in `mmfs run`: they work, and what they print is what the machine's files say.

The machine stands still, so that a tool's numbers and the files read afterwards are of the same moment.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.mounted.machines import ENVIRONMENT, MMFS, Machine, columns, need

pytestmark = pytest.mark.mounted


def fields(text: str) -> dict[str, int]:
    """Name -> number of lines such as those of /proc/vmstat."""
    return {row[0]: int(row[1]) for row in map(str.split, text.splitlines())}


def slabinfo(machine: Machine) -> dict[str, list[int]]:
    """Cache -> active_objs, num_objs, objsize, objperslab, pagesperslab, active_slabs, num_slabs."""
    found = {}
    for line in machine.read("proc/slabinfo").splitlines()[2:]:
        row = line.split()
        found[row[0]] = [int(word) for word in [*row[1:6], *row[13:15]]]
    return found


def test_free(still: Machine) -> None:
    """free -k."""
    need("free")
    memory, swap = (list(map(int, line.split()[1:])) for line in still.output("free", "-k").splitlines()[1:])
    info = still.meminfo()
    cache = info["Buffers"] + info["Cached"] + info["SReclaimable"]
    assert memory[0] == info["MemTotal"]
    assert memory[1] in (info["MemTotal"] - info["MemAvailable"], info["MemTotal"] - info["MemFree"] - cache)
    assert memory[2:] == [info["MemFree"], info["Shmem"], cache, info["MemAvailable"]]
    assert swap == [info["SwapTotal"], info["SwapTotal"] - info["SwapFree"], info["SwapFree"]]


def test_vmstat(still: Machine) -> None:
    """vmstat: the memory columns."""
    need("vmstat")
    row = columns(still.output("vmstat", "-n"), ["swpd", "free", "buff", "cache"])[0]
    info = still.meminfo()
    assert int(row["swpd"]) == info["SwapTotal"] - info["SwapFree"]
    assert int(row["free"]) == info["MemFree"]
    assert int(row["buff"]) == info["Buffers"]
    assert int(row["cache"]) == info["Cached"] + info["SReclaimable"]


def test_vmstat_s(still: Machine) -> None:
    """vmstat -s: memory, events and the totals of /proc/stat."""
    need("vmstat")
    table = {}
    for line in still.output("vmstat", "-s").splitlines():
        number, _, name = line.strip().partition(" ")
        table[name.removeprefix("K ").strip()] = int(number)
    info, events = still.meminfo(), fields(still.read("proc/vmstat"))
    stat = {line.split()[0]: line.split()[1:] for line in still.read("proc/stat").splitlines()}
    expected = {
        "total memory": info["MemTotal"],
        "free memory": info["MemFree"],
        "active memory": info["Active"],
        "inactive memory": info["Inactive"],
        "buffer memory": info["Buffers"],
        "total swap": info["SwapTotal"],
        "free swap": info["SwapFree"],
        "boot time": int(stat["btime"][0]),
        "forks": int(stat["processes"][0]),
        "CPU context switches": int(stat["ctxt"][0]),
        "interrupts": int(stat["intr"][0]),
        "pages swapped in": events["pswpin"],
        "pages swapped out": events["pswpout"],
        "idle cpu ticks": int(stat["cpu"][3]),
        "system cpu ticks": int(stat["cpu"][2]),
    }
    assert {name: table[name] for name in expected} == expected


def test_vmstat_m(still: Machine) -> None:
    """vmstat -m: every slab cache."""
    need("vmstat")
    caches = slabinfo(still)
    rows = [line.split() for line in still.output("vmstat", "-m").splitlines() if not line.startswith("Cache ")]
    assert len(rows) == len(caches)
    for name, *numbers in rows:
        full = next(cache for cache in caches if cache == name or (len(name) >= 24 and cache.startswith(name)))
        active, total, size, per_slab = caches[full][:4]
        assert list(map(int, numbers)) == [active, total, size, per_slab], name


def test_ps_aux(still: Machine) -> None:
    """ps aux: who is there, whose, and how large."""
    need("ps")
    rows = columns(still.output("ps", "aux"), ["USER", "PID", "VSZ", "RSS"])
    assert sorted(int(row["PID"]) for row in rows) == still.pids()
    assert len(rows) > 20
    for row in rows:
        pid = int(row["PID"])
        assert int(row["RSS"]) == still.status_kb(pid, "VmRSS"), row
        assert int(row["VSZ"]) == still.status_kb(pid, "VmSize"), row
        assert row["STAT"][0] == still.status(pid)["State"][0]
        if "VmSize" not in still.status(pid):
            assert row["COMMAND"].startswith("[")
    assert {row["USER"] for row in rows} >= {"root"}
    assert rows[0]["PID"] == "1"


def test_ps_fields(still: Machine) -> None:
    """ps -eo pid,rss,vsz,maj_flt."""
    need("ps")
    table = {}
    for line in still.output("ps", "-eo", "pid,ppid,rss,vsz,maj_flt,min_flt,ni,nlwp,comm").splitlines()[1:]:
        row = line.split(None, 8)
        table[int(row[0])] = [int(word) if word != "-" else None for word in row[1:8]] + [row[8]]
    assert sorted(table) == still.pids()
    for pid, (parent, rss, size, majors, minors, nice, threads, name) in table.items():
        status = still.status(pid)
        stat = still.read(f"proc/{pid}/stat").rpartition(")")[2].split()
        assert parent == int(status["PPid"]) == int(stat[1])
        assert (rss, size) == (still.status_kb(pid, "VmRSS"), still.status_kb(pid, "VmSize"))
        assert (minors, majors) == (int(stat[7]), int(stat[9]))
        assert nice == (int(stat[16]) if int(stat[38]) in (0, 3) else None)  # policies SCHED_NORMAL and SCHED_BATCH
        assert threads == int(status["Threads"])
        assert status["Name"].startswith(str(name).removesuffix(" <defunct>")[:15].rstrip())


def test_ps_tree(still: Machine) -> None:
    """ps axf and pgrep find the parents and names."""
    need("ps", "pgrep")
    assert "systemd" in still.output("ps", "axf")
    name = still.status(1)["Name"]
    assert "1" in still.output("pgrep", "-x", name).split()


def test_top(still: Machine) -> None:
    """top -b -n1: the summary and every process."""
    need("top")
    text = still.output("top", "-b", "-n1", "-w", "200")
    info = still.meminfo()
    tasks = re.search(r"Tasks:\s*(\d+) total", text)
    assert tasks is not None
    assert int(tasks[1]) == len(still.pids())
    memory = re.search(r"MiB Mem :\s*([\d.]+) total,\s*([\d.]+) free", text)
    assert memory is not None
    assert float(memory[1]) == pytest.approx(info["MemTotal"] / 1024, abs=0.051)
    assert float(memory[2]) == pytest.approx(info["MemFree"] / 1024, abs=0.051)
    swap = re.search(r"MiB Swap:\s*([\d.]+) total", text)
    assert swap is not None
    assert float(swap[1]) == pytest.approx(info["SwapTotal"] / 1024, abs=0.051)
    rows = columns(text, ["PID", "VIRT", "RES", "COMMAND"])
    assert sorted(int(row["PID"]) for row in rows) == still.pids()
    for row in rows:
        if row["RES"].isdigit():
            assert int(row["RES"]) == still.status_kb(int(row["PID"]), "VmRSS")


def test_pmap(still: Machine) -> None:
    """pmap -X: every mapping of a process with its sizes, and their sum."""
    need("pmap")
    pid = max(still.pids(), key=lambda pid: still.status_kb(pid, "VmRSS"))
    text = still.output("pmap", "-X", str(pid))
    rows = columns(text, ["Address", "Perm", "Size", "Rss"])
    mappings = still.read(f"proc/{pid}/maps").splitlines()
    rows = [row for row in rows if re.fullmatch(r"[0-9a-f]{8,16}", row["Address"])]
    assert [int(row["Address"], 16) for row in rows] == [int(line.split("-")[0], 16) for line in mappings]
    sums = dict.fromkeys(("Size", "Rss", "Pss", "Referenced", "Anonymous", "Swap"), 0)
    for line in still.read(f"proc/{pid}/smaps").splitlines():
        name, _, value = line.partition(":")
        if name in sums:
            sums[name] += int(value.split()[0])
    assert {name: sum(int(row[name]) for row in rows) for name in sums} == sums
    assert str(sums["Rss"]) in text.splitlines()[-1].split()
    assert sums["Size"] == still.status_kb(pid, "VmSize")
    assert sums["Rss"] == still.status_kb(pid, "VmRSS")


def test_pmap_x(still: Machine) -> None:
    """pmap -x and plain pmap: the totals."""
    need("pmap")
    total = still.output("pmap", "-x", "1").splitlines()[-1].split()
    assert int(total[2]) == still.status_kb(1, "VmSize")
    assert int(total[3]) == still.status_kb(1, "VmRSS")
    assert still.output("pmap", "1").splitlines()[-1].split()[-1] == f"{still.status_kb(1, 'VmSize')}K"


def test_slabtop(still: Machine) -> None:
    """slabtop -o: the totals and the first caches."""
    need("slabtop")
    text = still.output("slabtop", "-o")
    caches = slabinfo(still)
    objects = re.search(r"Active / Total Objects.*: (\d+) / (\d+)", text)
    assert objects is not None
    assert int(objects[1]) == sum(row[0] for row in caches.values())
    assert int(objects[2]) == sum(row[1] for row in caches.values())
    rows = [line.split() for line in text.split("NAME", 1)[1].splitlines() if line.strip()]
    assert len(rows) > 10
    for row in rows:
        name = row[-1]
        full = name if name in caches else next(cache for cache in caches if cache.startswith(name))
        assert [int(row[0]), int(row[1])] == [caches[full][1], caches[full][0]], row


def test_smem(still: Machine) -> None:
    """smem: proportional and unique sizes of every process."""
    need("smem")
    rows = [
        list(map(int, line.split())) for line in still.output("smem", "-H", "-c", "pid rss pss uss swap").splitlines()
    ]
    users = [pid for pid in still.pids() if still.status_kb(pid, "VmRSS")]
    assert sorted(row[0] for row in rows) == users
    for pid, rss, pss, uss, swap in rows:
        rollup = {}
        for line in still.read(f"proc/{pid}/smaps_rollup").splitlines()[1:]:
            rollup[line.split(":")[0]] = int(line.split()[1])
        assert (rss, swap) == (rollup["Rss"], rollup["Swap"])
        assert uss == rollup["Private_Clean"] + rollup["Private_Dirty"]
        assert pss == pytest.approx(rollup["Pss"], abs=len(still.read(f"proc/{pid}/maps").splitlines()))
    assert "MemTotal" not in still.output("smem", "-w")


def test_numastat_m(still: Machine) -> None:
    """numastat -m: meminfo of each node, in MB."""
    need("numastat")
    table = {}
    for line in still.output("numastat", "-m").splitlines():
        row = line.split()
        if len(row) == 4 and re.fullmatch(r"\d+\.\d\d", row[1]):
            table[row[0]] = list(map(float, row[1:]))
    nodes = [still.meminfo(f"sys/devices/system/node/node{nid}/meminfo") for nid in (0, 1)]
    for name in ("MemTotal", "MemFree", "MemUsed", "Active", "AnonPages", "FilePages", "Slab", "PageTables"):
        for nid in (0, 1):
            assert table[name][nid] == pytest.approx(nodes[nid][name] / 1024, abs=0.0051), name
        assert table[name][2] == pytest.approx(sum(node[name] for node in nodes) / 1024, abs=0.0051), name


def test_numastat(still: Machine) -> None:
    """numastat: the allocation counters of each node."""
    need("numastat")
    nodes = [fields(still.read(f"sys/devices/system/node/node{nid}/numastat")) for nid in (0, 1)]
    for line in still.output("numastat").splitlines()[1:]:
        name, *numbers = line.split()
        name = {"interleave_hit": "interleave_hit"}.get(name, name)
        assert list(map(int, numbers)) == [node[name] for node in nodes], name


def test_numactl(still: Machine) -> None:
    """numactl -H: sizes, CPUs and distances."""
    need("numactl")
    text = still.output("numactl", "-H")
    assert text.startswith("available: 2 nodes (0-1)\n")
    for nid in (0, 1):
        node = still.meminfo(f"sys/devices/system/node/node{nid}/meminfo")
        assert f"node {nid} size: {node['MemTotal'] // 1024} MB\n" in text
        assert f"node {nid} free: {node['MemFree'] // 1024} MB\n" in text
        distances = still.read(f"sys/devices/system/node/node{nid}/distance").split()
        assert [f"{nid}:", *distances] in [line.split() for line in text.splitlines()]
    cpus = re.findall(r"node \d cpus: ([\d ]+)", text)
    assert sorted(" ".join(cpus).split()) == ["0", "1", "2", "3"]


def test_lsmem(still: Machine) -> None:
    """lsmem: blocks of memory and their sum."""
    need("lsmem")
    folder = still.path / "sys/devices/system/memory"
    size = int((folder / "block_size_bytes").read_text(), 16)
    online = [path for path in folder.glob("memory[0-9]*") if (path / "state").read_text() == "online\n"]
    text = still.output("lsmem", "-b", "--summary=only")
    assert re.search(rf"Memory block size:\s+{size}\n", text)
    assert re.search(rf"Total online memory:\s+{size * len(online)}\n", text)
    blocks = json.loads(still.output("lsmem", "-J", "-a", "-b", "-o", "RANGE,SIZE,STATE,BLOCK,NODE,ZONES"))["memory"]
    assert len(blocks) == len(online)
    for block in blocks:
        path = folder / f"memory{block['block']}"
        assert block["zones"].lower() == (path / "valid_zones").read_text().strip().replace(" ", "/").lower()
        assert (path / f"node{block['node']}").exists()


def test_lscpu(still: Machine) -> None:
    """lscpu: the machine's processors, not ours."""
    need("lscpu")
    rows = {}
    for line in still.run("lscpu").stdout.splitlines():
        name, _, value = line.partition(":")
        rows[name.strip()] = value.strip()
    assert rows["CPU(s)"] == "4"
    assert rows["NUMA node(s)"] == "2"
    assert rows["NUMA node0 CPU(s)"].replace(",", "-") == still.read("sys/devices/system/node/node0/cpulist").strip()


def test_uptime_and_w(still: Machine) -> None:
    """uptime and w: load averages; the time since boot."""
    need("uptime", "w")
    loads = ", ".join(still.read("proc/loadavg").split()[:3])
    assert still.output("uptime").rstrip().endswith(f"load average: {loads}")
    assert still.output("w").splitlines()[0].rstrip().endswith(f"load average: {loads}")
    assert " up " in still.output("uptime")


def test_sysctl(still: Machine) -> None:
    """sysctl -a: every tunable that can be read, with its value."""
    need("sysctl")
    result = still.run("sysctl", "-a")
    assert result.returncode == 0
    assert "unknown" not in result.stderr
    shown: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition(" = ")
        shown.setdefault(name.rstrip(" ="), []).append(value)
    count = 0
    root = still.path / "proc/sys"
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if path.stat().st_mode & 0o444 and name not in ("stat_refresh", "uuid"):
                key = ".".join(path.relative_to(root).parts)
                if text := path.read_text():
                    assert shown[key] == text.rstrip("\n").split("\n"), key
                    count += 1
    assert count > 45
    assert still.output("sysctl", "-n", "vm.swappiness") == still.read("proc/sys/vm/swappiness")


def test_sysctl_writes(still: Machine) -> None:
    """sysctl -w changes the machine, and says what it refuses."""
    need("sysctl")
    before = still.read("proc/sys/vm/dirty_ratio")
    try:
        assert still.output("sysctl", "-w", "vm.dirty_ratio=35") == "vm.dirty_ratio = 35\n"
        assert still.read("proc/sys/vm/dirty_ratio") == "35\n"
        refused = still.run("sysctl", "-w", "vm.dirty_ratio=101")
        assert "Invalid argument" in refused.stderr
    finally:
        (still.path / "proc/sys/vm/dirty_ratio").write_text(before)


def test_sar(lively: Machine) -> None:
    """sar -r 1 1: takes its own second, so the numbers may have moved a little."""
    need("sar")
    result = lively.run("sar", "-r", "1", "1")  # libsensors complains that /sys is no sysfs
    assert result.returncode == 0
    text = result.stdout
    lines = [line for line in text.splitlines() if line.strip()]
    names = next(line for line in lines if "kbmemfree" in line).split()
    values = next(line for line in lines if line.startswith("Average:")).split()
    row = dict(zip(names[-len(values) + 1 :], values[1:], strict=True))
    info = lively.meminfo()
    for name, key in (("kbmemfree", "MemFree"), ("kbavail", "MemAvailable"), ("kbcached", "Cached"),
                      ("kbbuffers", "Buffers"), ("kbcommit", "Committed_AS"), ("kbactive", "Active")):  # fmt: skip
        assert float(row[name]) == pytest.approx(info[key], rel=0.02, abs=512), name


def test_vmstat_twice(lively: Machine) -> None:
    """vmstat 1 2: the second row is of a second of an idle machine."""
    need("vmstat")
    row = columns(lively.output("vmstat", "-n", "1", "2"), ["swpd", "free", "us", "id"])
    assert len(row) == 2
    assert int(row[1]["id"]) > 80


def test_htop(lively: Machine, tmp_path: Path) -> None:
    """htop on a terminal: it draws the machine and quits."""
    need("htop")
    command = [*MMFS, "run", "--mount", str(lively.path), "--", "htop", "-d", "5"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, {**ENVIRONMENT, "LINES": "60", "HTOPRC": str(tmp_path / "htoprc")})
    output, end, asked = b"", time.monotonic() + 20, False
    try:
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    output += os.read(terminal, 65536)
                except OSError:
                    break
            if not asked and b"/" in output and len(output) > 3000:
                time.sleep(0.5)
                os.write(terminal, b"q")
                asked = True
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()].|\x0f", b"", output).decode(errors="replace")
    total = lively.meminfo()["MemTotal"]
    shown = re.findall(r"/\s*([\d.]+)([KMG])", text)
    sizes = [float(number) * {"K": 1, "M": 1 << 10, "G": 1 << 20}[unit] for number, unit in shown]
    assert any(size == pytest.approx(total, rel=0.02) for size in sizes), text[:500]
    assert "Tasks:" in text


PSUTIL = """
import json, psutil
print(json.dumps({
    "memory": psutil.virtual_memory()._asdict(),
    "swap": psutil.swap_memory()._asdict(),
    "cpus": psutil.cpu_count(),
    "boot": psutil.boot_time(),
    "pids": psutil.pids(),
    "me": psutil.Process().name(),
    "processes": {p.pid: {"name": p.info["name"], "ppid": p.info["ppid"], **p.info["memory_full_info"]._asdict()}
                  for p in psutil.process_iter(["name", "ppid", "memory_full_info"])},
}))
"""


def test_psutil(still: Machine) -> None:
    """psutil: virtual_memory, swap_memory and memory_full_info of every process."""
    pytest.importorskip("psutil")
    answer = json.loads(still.output(sys.executable, "-c", PSUTIL))
    info = {name: value * 1024 for name, value in still.meminfo().items()}
    memory = answer["memory"]
    expected = {
        "total": info["MemTotal"],
        "available": info["MemAvailable"],
        "free": info["MemFree"],
        "buffers": info["Buffers"],
        "cached": info["Cached"] + info["SReclaimable"],
        "shared": info["Shmem"],
        "slab": info["Slab"],
        "active": info["Active"],
        "inactive": info["Inactive"],
    }
    assert {name: memory[name] for name in expected} == expected
    assert (answer["swap"]["total"], answer["swap"]["free"]) == (info["SwapTotal"], info["SwapFree"])
    assert answer["pids"] == still.pids()
    assert answer["boot"] == int(re.search(r"btime (\d+)", still.read("proc/stat"))[1])  # type: ignore[index]
    assert answer["me"].startswith("python")
    assert sorted(map(int, answer["processes"])) == still.pids()
    for word, process in answer["processes"].items():
        pid = int(word)
        status = still.status(pid)
        assert process["rss"] == still.status_kb(pid, "VmRSS") * 1024
        assert process["vms"] == still.status_kb(pid, "VmSize") * 1024
        assert process["ppid"] == int(status["PPid"])
        if process["rss"]:
            rollup = still.read(f"proc/{pid}/smaps_rollup")
            private = sum(int(kb) for kb in re.findall(r"Private_(?:Clean|Dirty|Hugetlb):\s+(\d+)", rollup))
            assert process["uss"] == private * 1024
            assert process["pss"] == int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024  # type: ignore[index]


COPIES = """
import os, shutil, sys
folder, *paths = sys.argv[1:]
for number, path in enumerate(paths):
    shutil.copyfile(path, f"{folder}/{number}")
    with open(path, "rb") as source, open(f"{folder}/{number}.sendfile", "wb") as target:
        while os.sendfile(target.fileno(), source.fileno(), None, 1 << 20):
            pass
"""


def test_copies(still: Machine, tmp_path: Path) -> None:
    """sendfile(2), shutil.copyfile and busybox cat read files whole whose st_size is 0 or a page."""
    paths = ["/proc/meminfo", "/proc/zoneinfo", "/proc/1/smaps", "/sys/devices/system/node/node0/meminfo"]
    still.output(sys.executable, "-c", COPIES, str(tmp_path), *paths)
    for number, path in enumerate(paths):
        wanted = still.read(path)
        assert (tmp_path / str(number)).read_text() == wanted, path
        assert (tmp_path / f"{number}.sendfile").read_text() == wanted, path
    need("busybox")
    for path in paths:
        assert still.output("busybox", "cat", path) == still.read(path), path


def test_text_tools(still: Machine) -> None:
    """awk, grep, head, tail, wc, cmp, dd, less and tee, which all read in ways of their own."""
    wanted = still.read("proc/zoneinfo")
    assert still.output("wc", "-c", "/proc/zoneinfo").split()[0] == str(len(wanted))
    assert still.output("tail", "-n", "3", "/proc/zoneinfo") == "".join(wanted.splitlines(True)[-3:])
    assert still.output("head", "-c", "100", "/proc/zoneinfo") == wanted[:100]
    assert still.output("awk", "/MemTotal/ {print $2}", "/proc/meminfo") == f"{still.meminfo()['MemTotal']}\n"
    assert still.output("dd", "if=/proc/zoneinfo", "bs=7", "status=none") == wanted
    assert (
        still.output("sh", "-c", "cat /proc/zoneinfo | tee /dev/null | cmp - /proc/zoneinfo && echo same") == "same\n"
    )
    assert still.output("sed", "-n", "1p", "/proc/meminfo").startswith("MemTotal:")


def test_dmesg(still: Machine) -> None:
    """dmesg reads the machine's log from /dev/kmsg."""
    need("dmesg")
    if not (still.path / "dev/kmsg").exists() or not Path("/dev/kmsg").exists():
        pytest.skip("no /dev/kmsg")
    result = still.run("dmesg")
    assert "Linux version 6.12" in result.stdout
    assert "Memory: " in result.stdout


def test_signals_end_tools(still: Machine) -> None:
    """A tool that runs until it is stopped is stopped."""
    need("vmstat", "timeout")
    result = still.run("timeout", "-s", str(int(signal.SIGINT)), "1.5", "vmstat", "-n", "1")
    assert result.returncode == 124
    assert len(result.stdout.splitlines()) >= 3
