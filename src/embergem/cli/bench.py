"""`embergem bench`: print the speed of a model on this machine beside what its cores and its memory allow.

Separate because each command has its own module; `diagnostics.speed` measures.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from embergem.cli.options import ARITHMETIC, AsJson, with_load_options
from embergem.options import LoadOptions

if TYPE_CHECKING:
    from embergem.diagnostics.speed import Speed


@with_load_options("model", *ARITHMETIC)
def bench(options: LoadOptions, as_json: AsJson = False) -> None:
    """Measure tokens a second and latency of a model, and the share of what the cores and the memory allow."""
    from embergem.diagnostics.speed import measure
    from embergem.loader import load

    with load(options) as engine:
        speed = measure(engine)
    if as_json:
        typer.echo(json.dumps(asdict(speed), indent=2))
    else:
        show(speed)


def show(speed: "Speed") -> None:
    """Print a measurement as a table."""
    from embergem.diagnostics.speed import QUERY_TOKENS

    typer.echo(f"{speed.model}, {speed.dtype}, {speed.instruction_set}, {speed.threads} threads")
    table = Table("load", "tokens", "tokens/s", "GFLOP/s", "of the float32 peak")
    for name, load in speed.loads.items():
        share = f"{load.gflops / speed.peak_gflops:.0%}"
        table.add_row(name, f"{load.tokens:,}", f"{load.tokens_per_second:,.0f}", f"{load.gflops:.0f}", share)
    Console().print(table)
    above = "" if speed.dtype == "float32" else f" Products in {speed.dtype} can exceed it."
    typer.echo(
        f"float32 peak: {speed.peak_gflops:.0f} GFLOP/s, multiply-adds on registers with {speed.threads} threads, "
        f"measured now.{above}"
    )
    typer.echo(
        f"one query of {QUERY_TOKENS} tokens: median {speed.query_ms_p50:.1f} ms, slowest {speed.query_ms_p99:.1f} ms"
    )
    typer.echo(
        f"read bandwidth: {speed.read_gigabytes_per_second:.1f} GB/s from memory with {speed.threads} threads, "
        "measured now."
    )
    floor = speed.query_floor
    typer.echo(
        f"floors of one query: {floor.arithmetic_ms:.2f} ms for its arithmetic at {floor.peak_gflops:.0f} GFLOP/s, "
        f"{floor.bytes_ms:.2f} ms for {floor.bytes / 1e6:,.0f} MB of weights. The larger one is {floor.share:.0%} of "
        "the median."
    )
