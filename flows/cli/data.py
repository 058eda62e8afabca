"""`reelforge data`: what is in the data set, what becomes of it, and how something is taken out of it."""

import typer

from flows.cli import data_items, data_latents, data_prune, data_reports

app = typer.Typer(
    help="The data set: forecasts, reports, one clip, takedowns, room on the disk.", no_args_is_help=True
)
data_reports.register(app)
data_items.register(app)
data_prune.register(app)
data_latents.register(app)
