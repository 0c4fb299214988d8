"""The report of `embergem doctor`: what the machine is, and what was found, each with advice."""

import msgspec

from embergem.selfcheck import Finding


class Cpu(msgspec.Struct, frozen=True):
    """The processor: what it calls itself, its cores, and which vector instructions it has."""

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
    """Bytes there are, and bytes that this process may still take (its control group counts)."""

    total_bytes: int
    available_bytes: int


class Build(msgspec.Struct, frozen=True):
    """What is installed."""

    version: str
    python: str


class System(msgspec.Struct, frozen=True):
    """The machine."""

    os: str
    kernel: str
    cpu: Cpu
    memory: Memory
    build: Build
    cache_path: str
    hf_cache_path: str
    devices: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """Everything; `worst` is the status that the exit code follows."""

    system: System
    checks: tuple[Finding, ...]

    @property
    def worst(self) -> str:
        """Return "error", "warn" or "ok": the worst of all checks."""
        found = {check.status for check in self.checks}
        return next(status for status in ("error", "warn", "ok") if status in found or status == "ok")
