"""The checks of `embergem doctor`, and `examine`, which runs them.

Machine: instruction sets, threads, memory, cache directory, hub. Models: their files, then their self-checks.
"""

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.filesize import decimal

from embergem import catalog, paths
from embergem.checkpoint.checkpoint import Location
from embergem.diagnostics.doctor.report import Cpu, Memory, Report
from embergem.diagnostics.doctor.system import quota, system
from embergem.errors import EmbergemError
from embergem.hub import model_cache
from embergem.hub.resolve import identify
from embergem.loader import load
from embergem.memory_use import memory_use
from embergem.options import LoadOptions
from embergem.selfcheck import Finding

LOW_MEMORY = 1 << 30
LOW_DISK = 4 << 30
TIMEOUT = 5.0
"""Seconds to wait for the hub."""


def examine(names: Sequence[str] | None = None) -> Report:
    """Examine the machine and models: the named ones, or all in the cache. Each is loaded; nothing is downloaded."""
    facts = system()
    findings = [
        check_instruction_sets(facts.cpu),
        check_threads(facts.cpu, quota()),
        check_memory(facts.memory),
        check_cache(paths.cache_root()),
        check_hub(),
    ]
    for name in names or model_cache.list_models():
        findings += check_model(name)
    return Report(facts, tuple(findings))


def check_instruction_sets(cpu: Cpu) -> Finding:
    """Check that the fastest kernels that the processor supports are in use."""
    name, best = "instruction_sets", cpu.instruction_sets[-1] if cpu.instruction_sets else "portable"
    if best == "portable" and (cpu.avx2 or cpu.avx512):
        return Finding(
            name, "error", "the processor has AVX2, but only the portable kernels run",
            "At start-up the fast kernels did not agree with the portable ones. Report this with the output of "
            "`embergem doctor --json`",
        )  # fmt: skip
    if best == "portable":
        return Finding(
            name, "warn", f"{cpu.brand} has no vector instructions that embergem has kernels for",
            "Results are right, and many times slower to compute. Use a machine with AVX2 or NEON",
        )  # fmt: skip
    return Finding(name, "ok", f"{best} (available: {', '.join(cpu.instruction_sets)})")


def check_threads(cpu: Cpu, quota: float | None) -> Finding:
    """Check that there are at most as many threads as the control group allows cores (`quota`)."""
    name, usable = "threads", cpu.usable_cores
    if quota is not None and quota < usable:
        return Finding(
            name, "warn", f"{usable} threads share the time of {quota:g} cores, the limit of the control group",
            f"Give --threads {max(int(quota), 1)}, so that no thread is stopped in the middle of a batch",
        )  # fmt: skip
    total = f", of {cpu.logical_cores}" if usable < cpu.logical_cores else ""
    return Finding(name, "ok", f"one on each of {usable} cores{total}")


def check_memory(memory: Memory) -> Finding:
    """Check that there is memory for a model."""
    name = "memory"
    if not memory.total_bytes:
        return Finding(
            name, "warn", "the system does not say how much memory is free",
            "Compare the size of the model with the memory of the machine",
        )  # fmt: skip
    message = f"{decimal(memory.available_bytes)} of {decimal(memory.total_bytes)} are available"
    if memory.available_bytes < LOW_MEMORY:
        suggestion = "Close programs, raise the container's limit, or use a smaller model or --dtype int8"
        return Finding(name, "warn", message, suggestion)
    return Finding(name, "ok", message)


def check_cache(root: Path) -> Finding:
    """Check that the cache directory can be written and that its disk has space."""
    name = "cache"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            free = shutil.disk_usage(root).free
    except OSError as error:
        return Finding(
            name, "error", f"{root} cannot be written: {error.strerror or error}",
            "Models are then downloaded and checked again at each start. Set EMBERGEM_CACHE to a writable directory",
        )  # fmt: skip
    models = model_cache.list_models()
    message = f"{root} has {len(models)} model{'s' * (len(models) != 1)} and {decimal(free)} free"
    if free < LOW_DISK:
        return Finding(name, "warn", message, "Free some space, or set EMBERGEM_CACHE to another disk")
    return Finding(name, "ok", message)


def check_hub(timeout: float = TIMEOUT) -> Finding:
    """Check that the Hugging Face hub responds within `timeout` seconds."""
    name, endpoint = "hub", os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding(
            name, "warn", "HF_HUB_OFFLINE is set: only models on this machine can be used",
            "Unset it to download models",
        )  # fmt: skip
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "embergem doctor"})
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            responds = True
    except urllib.error.HTTPError as error:  # a 4xx status is normal for a HEAD request without a path
        responds = error.code < 500
    except (OSError, ValueError):
        responds = False
    if responds:
        return Finding(name, "ok", f"{endpoint} responds; {_describe_token()}")
    return Finding(
        name, "warn", f"{endpoint} does not respond",
        "Models on this machine can be used. To download others set HTTPS_PROXY or HF_ENDPOINT, or copy a directory "
        "of the model to this machine",
    )  # fmt: skip


def check_model(name: str) -> list[Finding]:
    """Check a directory, or a model in the cache: its files, then its self-check. Nothing is downloaded."""
    try:
        target = identify(name)
        if isinstance(target, Location):
            return _self_check(target.id, LoadOptions(model=target.path))
        model, entry = target
        fault = _cache_fault(model, entry)
    except EmbergemError as error:
        suggestion = "Download it with `embergem models pull`, or name another model"
        return [Finding(name, "error", error.message, suggestion)]
    return [fault] if fault else _self_check(model, LoadOptions(model=model))


def _cache_fault(model: str, entry: catalog.Entry | None) -> Finding | None:
    """Return what is wrong with a model in the cache; None if its files are complete."""
    cached = model_cache.find(model)
    if cached is None:
        return Finding(model, "warn", "is not in the cache", f"Download it with `embergem models pull {model}`")
    if faults := model_cache.find_faults(cached, entry, full=False):
        suggestion = f"Download it again with `embergem models pull {model}`"
        return Finding(model, "error", "; ".join(faults), suggestion)
    return None


def _self_check(model: str, options: LoadOptions) -> list[Finding]:
    """Load a model and return the findings of its self-check, each named after the model."""
    try:
        with load(options) as engine:
            report = engine.report
            message = (
                f"{engine.dimensions} dimensions, {engine.limit} tokens, {engine.dtype} on {engine.instruction_set}, "
                f"{engine.weight_bytes / 2**20:,.0f} MiB of packed weights"
            )
            use = memory_use()
            memory = [Finding(f"{model} memory", "ok", str(use))] if use else []
    except EmbergemError as error:
        return [Finding(model, "error", error.message, "The model cannot be loaded")]
    loaded = Finding(f"{model} loaded", "ok", message)
    return [
        loaded,
        *memory,
        *(msgspec.structs.replace(finding, name=f"{model} {finding.name}") for finding in report.findings),
    ]


def _describe_token() -> str:
    from huggingface_hub import get_token

    return "a token for gated models is set" if get_token() else "no token is set; only gated models need one"
