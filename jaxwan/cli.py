"""The command line: puts the commands together, and says in one line what is wrong."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape

from jaxwan import __version__
from jaxwan.commands import (
    bandwidth,
    bench,
    best,
    calibrate,
    compare,
    folders,
    listing,
    passing,
    phase,
    published,
    recommend,
    report,
    run,
    status,
    tornado,
    trace,
    validate,
    variance,
)
from jaxwan.commands.shell import err
from jaxwan.experiment.errors import InputError, translate

app = typer.Typer(
    name="jaxwan",
    help="Simulate distributed training over wide-area networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
IN_ORDER = (
    listing, run, compare, status, bandwidth, validate, bench, best, folders, passing, recommend,
    calibrate, trace, variance, report, phase, tornado, published,
)  # fmt: skip


def say_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"jaxwan {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Simulate distributed training over wide-area networks."""


for module in IN_ORDER:
    module.register(app)


def say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning of the package as one line on stderr."""
    err.print(f"[yellow]warning[/] {escape(' '.join(str(message).split()))}")


def usage_text(error: Any) -> str:
    """Say what is wrong with a call; of a value that cannot be read, in the words of the files."""
    param = getattr(error, "param", None)
    if param is not None and isinstance(error.__cause__, ValidationError):
        return str(translate(error.__cause__, ()).at(param.opts[0]))
    return str(error.format_message())


def main() -> None:
    """Run the command line; a wrong input is one line on stderr and exit code 2."""
    warnings.showwarning = say_warning
    usage: Any = typer.BadParameter.__mro__[1]
    try:
        raise SystemExit(app(standalone_mode=False) or 0)
    except (InputError, OSError, usage) as error:
        text = usage_text(error) if isinstance(error, usage) else str(error)
        if text and len(sys.argv) > 1:
            err.print(f"[red]error[/] {escape(' '.join(text.split()))}", soft_wrap=True)
        raise SystemExit(2) from None
    except typer.Abort:  # Ctrl-C
        err.print("interrupted")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
