"""Checks of the machine: instruction sets, threads, memory, cache, hub."""

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from rich.filesize import decimal

from embergem.diagnostics.doctor.report import Cpu, Memory
from embergem.hub import model_cache
from embergem.selfcheck import Finding

LEAST_MEMORY = 1 << 30
LEAST_DISK = 4 << 30
TIMEOUT = 5.0
"""Seconds to wait for the hub."""


def instruction_sets(cpu: Cpu) -> Finding:
    """The kernels for what the processor can do are in use."""
    name, best = "instruction_sets", cpu.instruction_sets[-1] if cpu.instruction_sets else "portable"
    if best == "portable" and (cpu.avx2 or cpu.avx512):
        return Finding(
            name, "error", "the processor has AVX2, yet only the portable kernels run",
            "At start-up the fast kernels did not agree with the portable ones. Report this with the output of "
            "`embergem doctor --json`",
        )  # fmt: skip
    if best == "portable":
        return Finding(
            name, "warn", f"{cpu.brand} has no vector instructions that embergem has kernels for",
            "Results are right and many times slower; use a machine with AVX2 or NEON",
        )  # fmt: skip
    return Finding(name, "ok", f"{best} (there is: {', '.join(cpu.instruction_sets)})")


def threads(cpu: Cpu, quota: float | None) -> Finding:
    """As many threads compute as the process may use cores."""
    name, usable = "threads", cpu.usable_cores
    if quota is not None and quota < usable:
        return Finding(
            name, "warn", f"{usable} threads share the time of {quota:g} cores, which the control group allows",
            f"Give --threads {max(int(quota), 1)}, so that none of them is stopped in the middle of a batch",
        )  # fmt: skip
    bound = f", of {cpu.logical_cores}" if usable < cpu.logical_cores else ""
    return Finding(name, "ok", f"one on each of {usable} cores{bound}")


def memory(found: Memory) -> Finding:
    """There is room for a model."""
    name = "memory"
    if not found.total_bytes:
        return Finding(name, "warn", "the system does not say how much memory is free", "Watch it yourself")
    said = f"{decimal(found.available_bytes)} of {decimal(found.total_bytes)} can be taken"
    if found.available_bytes < LEAST_MEMORY:
        suggestion = "Close something, raise the bound of the container, or take a smaller model or dtype int8"
        return Finding(name, "warn", said, suggestion)
    return Finding(name, "ok", said)


def cache_directory(root: Path) -> Finding:
    """The cache can be written and has room."""
    name = "cache"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            free = shutil.disk_usage(root).free
    except OSError as error:
        return Finding(
            name, "error", f"{root} cannot be written: {error.strerror or error}",
            "Models are then fetched and checked anew at each start. Set EMBERGEM_CACHE to a directory of yours",
        )  # fmt: skip
    models = model_cache.list_models()
    said = f"{root} has {len(models)} model{'s' * (len(models) != 1)} and {decimal(free)} free"
    if free < LEAST_DISK:
        return Finding(name, "warn", said, "Free some space, or set EMBERGEM_CACHE to another disk")
    return Finding(name, "ok", said)


def hub(timeout: float = TIMEOUT) -> Finding:
    """The hub can be asked for models."""
    name, endpoint = "hub", os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding(
            name, "warn", "HF_HUB_OFFLINE is set: only models that are here can be used", "Unset it to fetch"
        )
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "embergem doctor"})
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            answered = True
    except urllib.error.HTTPError as error:  # an answer is an answer, and 4xx to a bare HEAD says nothing
        answered = error.code < 500
    except (OSError, ValueError):
        answered = False
    if answered:
        return Finding(name, "ok", f"{endpoint} answers; {_token()}")
    return Finding(
        name, "warn", f"{endpoint} does not answer",
        "Models that are here can be used. To fetch others set HTTPS_PROXY or HF_ENDPOINT, or copy a directory here",
    )  # fmt: skip


def _token() -> str:
    from huggingface_hub import get_token

    return "a token for gated models is there" if get_token() else "no token, which only gated models need"
