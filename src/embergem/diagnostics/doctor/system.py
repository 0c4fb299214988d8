"""Reads facts about the machine: from /proc and the control group on Linux, else from the system."""

import ctypes
import os
import platform
import sys
from pathlib import Path

from embergem import __version__, paths
from embergem._native import available_memory, instruction_sets
from embergem.diagnostics.doctor.report import Build, Cpu, Memory, System

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


def system(proc: Path = PROC, cgroup: Path = CGROUP) -> System:
    """Return the facts about the machine; `proc` and `cgroup` are the directories to read them from."""
    return System(
        os=platform.system(),
        kernel=platform.release(),
        cpu=cpu(proc),
        memory=memory(proc, cgroup),
        build=Build(version=__version__, python=platform.python_version()),
        cache_path=str(paths.cache_root()),
        hf_cache_path=str(paths.hub_cache()),
    )


def cpu(proc: Path = PROC) -> Cpu:
    """Read /proc/cpuinfo; without that file, ask Python for the cores."""
    blocks = [_fields(block) for block in _text(proc / "cpuinfo").split("\n\n") if block.strip()]
    first = blocks[0] if blocks else {}
    flags = set(first.get("flags", "").split())
    logical = len(blocks) or os.cpu_count() or 1
    cores = {(block.get("physical id"), block["core id"]) for block in blocks if "core id" in block}
    return Cpu(
        brand=first.get("model name", platform.machine()),
        logical_cores=logical,
        physical_cores=len(cores) or logical,
        usable_cores=usable_cores(),
        avx="avx" in flags,
        avx2="avx2" in flags,
        avx512="avx512f" in flags,
        fma="fma" in flags,
        vnni="avx512_vnni" in flags or "avx_vnni" in flags,
        instruction_sets=tuple(instruction_sets()),
    )


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(cgroup: Path = CGROUP) -> float | None:
    """Return the processor time that the control group allows, in cores; None without a limit."""
    allowed, _, period = _text(cgroup / "cpu.max").strip().partition(" ")
    return int(allowed) / int(period) if allowed.isdigit() and period.isdigit() else None


def memory(proc: Path = PROC, cgroup: Path = CGROUP) -> Memory:
    """Read /proc/meminfo and the memory limit of the control group; on macOS and Windows, ask the system.

    Both sizes are 0 if the system gives none.
    """
    if sys.platform in ("darwin", "win32"):
        return Memory(total_bytes=_physical_memory(), available_bytes=available_memory() or 0)
    fields = _fields(_text(proc / "meminfo"))
    total, available = (_kib(fields.get(name, "")) for name in ("MemTotal", "MemAvailable"))
    limit, used = (_text(cgroup / name).strip() for name in ("memory.max", "memory.current"))
    if limit.isdigit() and used.isdigit():
        total = min(total, int(limit)) if total else int(limit)
        available = min(available, max(int(limit) - int(used), 0))
    return Memory(total_bytes=total, available_bytes=available)


def _physical_memory() -> int:
    """Return the bytes of memory that this machine has, on macOS and Windows; 0 if the system does not say."""
    if sys.platform == "win32":
        kib = ctypes.c_ulonglong()
        known = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kib))
        return kib.value * 1024 if known else 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _kib(field: str) -> int:
    number = field.split(" ")[0]
    return int(number) * 1024 if number.isdigit() else 0


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""
