"""The report of `embergem models verify` as Markdown, to read in a terminal and to paste into an issue.

Separate because `cli.models` has many commands, and only this one needs the diagnostics.
"""

from pathlib import Path

from embergem.diagnostics.published_copy import Check, PublishedReport

_VERDICTS = {
    "published": "is the published model, and computes what was published",
    "different": "is NOT the published model, or does not compute what was published",
    "not verifiable": "CANNOT be verified",
}


def markdown(report: PublishedReport) -> str:
    """Return the report: verdict, versions and machine, then a table of all checks, failed ones first."""
    system, copy = report.system, report.copy
    cpu, build = system.cpu, system.build
    ran = f"{copy.dtype} on {copy.instruction_set}" if copy.dtype else "not loaded"
    revision = f", revision {copy.revision}" if copy.revision else ""
    lines = [
        f"**{report.model} {_VERDICTS[report.verdict]}**: {report.reason}.",
        "",
        f"- embergem {build.version} (native code {' and '.join(name[:12] for name in report.builds)}), "
        f"Python {build.python}, NumPy {report.numpy}, {system.os} {system.kernel}",
        f"- {cpu.brand}, {cpu.physical_cores} cores, instruction sets {', '.join(cpu.instruction_sets)}; {ran}",
        f"- {_without_home(copy.path)}{revision}",
        *([f"- fingerprint {copy.fingerprint}"] if copy.fingerprint else []),
        "",
        "| status | check | value | expected | tolerance | note |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    order = ("failed", "not verifiable", "passed")
    lines += [_row(check) for status in order for check in report.checks if check.status == status]
    return "\n".join(lines)


def _row(check: Check) -> str:
    cells = (
        check.status,
        f"{check.kind} {check.name}",
        _text(check.value),
        _text(check.expected),
        _text(check.tolerance),
        _text(check.note),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"


def _text(value: str | float | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value or ""


def _without_home(path: str) -> str:
    """Shorten the home directory to ~, because its name may be that of a person."""
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(f"{home}/") else path
