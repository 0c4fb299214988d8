"""Assemble the command `embergem` from its subcommands, and turn errors into messages and exit codes."""

import inspect
import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from embergem import __version__
from embergem.cli import ray_option
from embergem.cli.help import NARROW, CommandGroup, SingleCommand
from embergem.errors import EmbergemError, InsufficientMemory, InvalidRequest, LoadError, UnknownModel, out_of_memory

EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 input refused, 4 model could not be loaded, 130 stopped with "
    "Ctrl-C."
)

OLLAMA_COMMANDS = {
    "create": "embergem convert MODEL.gguf -o DIRECTORY",
    "list": "embergem models list",
    "ls": "embergem models list",
    "ps": "curl http://127.0.0.1:1234/v1/models",
    "pull": "embergem models pull MODEL",
    "rm": "embergem models path MODEL, and delete that directory",
    "run": "embergem embed -m MODEL TEXT, or embergem serve -m MODEL",
    "show": "embergem models show MODEL",
    "start": "embergem serve -m MODEL",
}
"""Commands of Ollama that embergem does not have, and what does the same here."""


class _Command(SingleCommand):
    """One command of the program itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; `embed --ray` needs no value."""
        if self.name == "embed" and ray_option.OPTION in args:
            args = ray_option.fill_address(args)
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            _name_value(error, given)
            raise


def _name_value(error: typer.BadParameter, args: list[str]) -> None:
    """Put the value of an option into the error about it, where Typer says only what is allowed."""
    for name, following in zip(args, [*args[1:], ""], strict=True):
        option, equals, value = name.partition("=")
        if error.param is not None and option in error.param.opts:
            value = value if equals else following
            if value not in error.message:
                error.message = f"{value!r}. {error.message}"


class _Commands(CommandGroup):
    """The subcommands; the error about an unknown one names the command that was meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuse a command of Ollama with the command that does the same here."""
        if args and args[0] in OLLAMA_COMMANDS and args[0] not in self.commands:
            instead = OLLAMA_COMMANDS[args[0]]
            if args[1:] and not args[1].startswith("-"):
                instead = re.sub(r"\bMODEL\b(?!\.)", lambda _: args[1], instead)
            ctx.fail(f"embergem has no command {args[0]!r}. Use: {instead}")
        return super().resolve_command(ctx, args)


GROUPS = {"models": "models", "keys": "keys"}
"""Module of each group of commands, by the name of the group. The group is called `app` there."""

COMMANDS = {
    "embed": ("embed", "embed"),
    "eval": ("eval", "evaluate"),
    "serve": ("serve", "serve"),
    "bench": ("bench", "bench"),
    "compile": ("compile", "compile_"),
    "convert": ("convert", "convert"),
    "fingerprint": ("fingerprint", "fingerprint"),
    "doctor": ("doctor", "doctor"),
    "verify": ("verify", "verify"),
}
"""Module and function of each command, by its name."""

app: typer.Typer
"""The program with all its commands, which are imported at the first use."""


def __getattr__(name: str) -> Any:
    if name == "app":
        return _whole()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _whole() -> typer.Typer:
    return assemble()


def assemble(args: Sequence[str] = ()) -> typer.Typer:
    """Assemble the program. If `args` begin with a command, it has only this one: the imports of all take 0.1 s."""
    program = typer.Typer(
        name="embergem",
        cls=_Commands,
        help="Compute embedding vectors of texts: a server, a command and a library for EmbeddingGemma and other "
        "models.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    program.callback()(options)
    only = {args[0]} if args and args[0] in {**GROUPS, **COMMANDS} else {*GROUPS, *COMMANDS}
    all_groups = [program]
    for name, module in GROUPS.items():
        if name not in only:
            continue
        group = import_module(f"embergem.cli.{module}").app
        program.add_typer(group, name=name, cls=CommandGroup, short_help=group.info.help)
        all_groups.append(group)
    for name, (module, function) in COMMANDS.items():
        if name not in only:
            continue
        command = getattr(import_module(f"embergem.cli.{module}"), function)
        # Typer keeps the line breaks of all paragraphs but the first, so each paragraph is made one line.
        description = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.__doc__ or ""))
        program.command(name, help=description, epilog=EPILOG)(command)
    for group in all_groups:
        for registered in group.registered_commands:
            registered.cls = _Command
            described = registered.help or inspect.getdoc(registered.callback) or ""
            # Typer would cut a longer text in the middle of the first sentence.
            registered.short_help = re.split(r"\.(?: |\n|$)", described)[0].replace("\n", " ") + "."
    return program


def fit_help(program: typer.Typer, columns: int) -> None:
    """Lay out the help for a terminal of `columns` columns; the command does so when it starts."""
    program.rich_markup_mode = None if columns < NARROW else "rich"
    program.info.context_settings = {"help_option_names": ["-h", "--help"], "terminal_width": columns}


def _version(show: bool) -> None:
    if show:
        typer.echo(f"embergem {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


def report(error: Exception) -> int:
    """Print an error of embergem, or of a file, as one line and return the exit code; raise any other error again."""
    error = out_of_memory(error)
    if isinstance(error, OSError) and error.filename is not None:
        advice = "Check the path." if isinstance(error, FileNotFoundError) else "Check the path and its permissions."
        typer.echo(f"error: {error.filename}: {error.strerror}. {advice}", err=True)
        return 1
    if not isinstance(error, EmbergemError):
        raise error
    typer.echo(f"error: {error.message}", err=True)
    if isinstance(error, InvalidRequest):
        return 3
    return 4 if isinstance(error, UnknownModel | LoadError | InsufficientMemory) else 1
