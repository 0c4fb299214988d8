"""The report of `embergem doctor`: facts about the machine, and findings with advice."""

import msgspec

from embergem.selfcheck import Finding


class Cpu(msgspec.Struct, frozen=True):
    """The processor: its name, its cores, its vector instructions, and the instruction sets that embergem uses."""

    brand: str
    logical_cores: int
    physical_cores: int
    usable_cores: int
    avx: bool
    avx2: bool
    avx512: bool
    fma: bool
    vnni: bool
    instruction_sets: tuple[str, ...]


class Memory(msgspec.Struct, frozen=True):
    """Bytes of memory in total, and bytes that this process can still allocate, within its control group."""

    total_bytes: int
    available_bytes: int


class Build(msgspec.Struct, frozen=True):
    """The versions of embergem and of Python."""

    version: str
    python: str


class System(msgspec.Struct, frozen=True):
    """Facts about the machine."""

    os: str
    kernel: str
    cpu: Cpu
    memory: Memory
    build: Build
    cache_path: str
    hf_cache_path: str
    devices: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """Facts about the machine and the findings of all checks. The exit code depends on `worst`."""

    system: System
    checks: tuple[Finding, ...]

    @property
    def worst(self) -> str:
        """The worst status of all checks: "error", "warn" or "ok"."""
        found = {check.status for check in self.checks}
        return next(status for status in ("error", "warn", "ok") if status in found or status == "ok")
