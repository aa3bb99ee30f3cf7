"""What the benchmarks count, and how it is shown.

fsync calls are counted by a library of ten lines that is loaded into the daemon. Written bytes are those of
/proc/<pid>/io, pages of 4 kB, all of a process: the database, its log, the marks and the records.
"""

import os
import struct
import subprocess
import sys
from pathlib import Path

from regtest import Failed

COUNT_SYNCS = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
static unsigned long long *count;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("SYNCS"), O_RDWR | O_CLOEXEC);
    void *page = file < 0 ? MAP_FAILED : mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) _exit(99);
    count = page;
}
static void one(void) { __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST); }
int fsync(int fd) { one(); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { one(); return syscall(SYS_fdatasync, fd); }
int syncfs(int fd) { one(); return syscall(SYS_syncfs, fd); }
"""


class Syncs:
    """Counts the fsync calls of the process that is started with `env`."""

    def __init__(self, folder, name="syncs"):
        self.file, library = folder / name, folder / "syncs.so"
        self.file.write_bytes(bytes(8))
        self.env = {"SYNCS": str(self.file), "LD_PRELOAD": str(library)}
        if not library.exists():
            source = folder / "syncs.c"
            source.write_text(COUNT_SYNCS)
            subprocess.run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", library, source], check=True)

    def count(self):
        return struct.unpack("=Q", self.file.read_bytes())[0]


def resident_mb(child):
    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise Failed("no VmRSS in /proc")


def written_kb(child):
    for line in Path(f"/proc/{child.pid}/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1]) / 1000
    raise Failed("no write_bytes in /proc")


ROWS = []


def row(name, ours, budget, peer, unit="", note=""):
    over = budget is not None and ours > budget
    ROWS.append((name, shown(ours), shown(budget), shown(peer), unit, "OVER BUDGET" if over else "", note))
    print(f"  … {name}: {shown(ours)} {unit} {note}", file=sys.stderr, flush=True)


def shown(value):
    if value is None:
        return "–"
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_rows():
    width = max(len(name) for name, *_ in ROWS)
    print(f"{'':{width}}  {'ours':>6}  {'at most':>7}  {'peer':>6}")
    for name, ours, budget, peer, unit, over, note in ROWS:
        print(f"{name:{width}}  {ours:>6}  {budget:>7}  {peer:>6}  {unit:2}  {over}  {note}".rstrip())
