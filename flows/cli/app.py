"""`reelforge`: the command line. Commands live beside this file; errors that a user can mend end with exit code 2."""

import signal
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from components.errors import UserError
from components.imports import end_quickly
from components.runtime import prepare_services, use_profile
from flows.cli import (
    catalogue,
    data,
    doctor,
    evaluation,
    generate,
    infra,
    plan,
    recipes,
    registry,
    run,
    services,
    status,
    vbench,
)

HELP = """From a bucket of raw video to a promoted text-to-video model.

[bold]Start[/]   reelforge demo                       the whole pipeline on footage made here, in minutes
[bold]Yours[/]   reelforge run --videos DIR           the same on your own videos
[bold]Look[/]    reelforge status                     what is done, what is stale, who is champion
[bold]Make[/]    reelforge generate "a red circle moves left"

A run can be stopped at any time (Ctrl-C, kill, power): the same command goes on from the last checkpoint."""

app = typer.Typer(
    help=HELP,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(run.demo)
app.command("run")(run.run)
app.command("stage")(run.stage)
app.command("status")(status.status)
app.command("plan")(plan.plan)
app.command("generate")(generate.generate)
app.command("report")(run.report)
app.command("pull")(run.pull)
app.command("evaluate")(evaluation.evaluate)
app.command("compare")(evaluation.compare)
app.command("promote")(registry.promote)
app.command("rollback")(registry.rollback)
app.command("lineage")(registry.lineage)
app.command("ui")(services.ui)
app.command("doctor")(doctor.doctor)
app.add_typer(recipes.app, name="recipes")
app.add_typer(catalogue.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(vbench.app, name="vbench")
app.add_typer(registry.app, name="registry")
app.add_typer(services.app, name="services")
app.add_typer(infra.app, name="infra")


@app.callback()
def with_profile(context: typer.Context) -> None:
    """Every command goes by the workspace's profile, but those that make and mend it."""
    if context.invoked_subcommand not in {"services", "infra", "doctor"}:
        use_profile(Path())


def main() -> None:
    """Entry point of the `reelforge` command."""
    end_quickly()
    prepare_services()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C
    console = Console(stderr=True)
    try:
        app()
    except UserError as error:
        console.print(f"[bold red]reelforge:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print(
            "\nstopped; everything finished is kept, and a stage at work has written its checkpoint."
            "\nThe same command goes on from here: [bold]reelforge run[/]  (see [bold]reelforge status[/])"
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
