"""`reelforge infra`: the AWS environment of a team, from plan to teardown. Terraform does it; this asks first.

What an environment looks like is in infra/terraform; what a team chooses (region, GPUs, budget) is kept in
infra/terraform/platform/environments/NAME.team.tfvars.json, without a secret, and belongs in the team's git.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.errors import UserError
from components.runtime import search_path
from flows.infra import life
from flows.infra.needs import Needs, needs_of
from flows.infra.terraform import ENVIRONMENTS, Environment
from flows.infra.wish import Wish

ROOT = Path()
console = Console()
app = typer.Typer(help="The team's cluster in AWS, through Terraform.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--environment", "-e", help="dev or prod.")]
Region = Annotated[str | None, typer.Option(help="AWS region, such as us-west-2; kept after the first time.")]
Zone = Annotated[list[str] | None, typer.Option(help="Availability zone; two or more.")]
Recipe = Annotated[str | None, typer.Option(help="Size the GPU group for this recipe, with --gpus.")]
Gpus = Annotated[str | None, typer.Option(help="GPUs that the recipe trains on, such as 16xH100.")]
GpuNodes = Annotated[int | None, typer.Option(help="Most machines of eight GPUs; the group starts empty.")]
GpuZone = Annotated[str | None, typer.Option(help="Zone of the GPU machines.")]
InstanceType = Annotated[str | None, typer.Option(help="p5.48xlarge, p5e.48xlarge or p5en.48xlarge.")]
Purchase = Annotated[str | None, typer.Option(help="on-demand, spot or capacity-block.")]
Reservation = Annotated[str | None, typer.Option(help="Id of a capacity block or reservation, cr-….")]
Budget = Annotated[float | None, typer.Option(help="Dollars a month; 0 where budgets are kept elsewhere.")]
BudgetEmail = Annotated[list[str] | None, typer.Option(help="Who is told at 50, 80 and 100 percent.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _said(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def environment_of(name: str) -> Environment:
    """Raises `UserError` for another name, or a folder without infra/terraform."""
    if name not in ENVIRONMENTS:
        raise UserError(f"--environment {name}: one of {', '.join(ENVIRONMENTS)}")
    found = Environment(ROOT.resolve(), name)
    if not (found.folder / "main.tf").is_file():
        raise UserError(f"{found.folder} is not there: run this in a clone of Reelforge")
    return found


def wish_of(
    region: Region = None,
    zone: Zone = None,
    recipe: Recipe = None,
    gpus: Gpus = None,
    gpu_nodes: GpuNodes = None,
    gpu_zone: GpuZone = None,
    instance_type: InstanceType = None,
    purchase: Purchase = None,
    reservation: Reservation = None,
    budget: Budget = None,
    budget_email: BudgetEmail = None,
) -> Wish:
    """What the options ask for."""
    return Wish(
        region=region,
        zones=tuple(zone or ()),
        gpu_nodes=gpu_nodes,
        gpu_zone=gpu_zone,
        instance_type=instance_type,
        purchase=purchase,
        reservation=reservation,
        budget=budget,
        budget_emails=tuple(budget_email or ()),
        needs=_needs(recipe, gpus),
    )


def _needs(recipe: str | None, gpus: str | None) -> Needs | None:
    if (recipe is None) != (gpus is None):
        raise UserError("--recipe and --gpus go together: --recipe open_sora_1_2 --gpus 16xH100")
    if recipe is None or gpus is None:
        return None
    from flows.cli.data_reports import params_of

    needs = needs_of(params_of(recipe), gpus, ROOT.resolve())
    _said(needs.sentence())
    return needs


def takes_a_wish(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `wish_of` behind its own, and the wish that they make."""
    options = signature(wish_of).parameters
    own = [option for option in signature(command).parameters.values() if option.name != "wish"]

    @wraps(command)
    def run(**given: Any) -> None:
        command(wish_of(**{name: given.pop(name) for name in options}), **given)

    together = [*own, *options.values()]
    vars(run)["__signature__"] = Signature(together)  # what Typer reads
    run.__annotations__ = {option.name: option.annotation for option in together}
    return run


@app.command()
@takes_a_wish
def plan(wish: Wish, environment: Name = "dev") -> None:
    """Ask AWS whether the environment can be made, then show what Terraform would do. Changes nothing.

    Example: reelforge infra plan --region us-west-2 --recipe open_sora_1_2 --gpus 16xH100 --budget 9000
    """
    life.plan(environment_of(environment), wish, _said)


@app.command()
@takes_a_wish
def up(wish: Wish, environment: Name = "dev", yes: Yes = False) -> None:
    """As `plan`; then, when you agree, make it. The same command goes on after an interruption."""
    life.bring_up(environment_of(environment), wish, _said, _asker(yes))
    _said(
        f"\n{environment} is up. Next: reelforge infra kubeconfig, then reelforge infra profile (docs/runbook.md)"
    )


@app.command()
def down(
    environment: Name = "dev",
    buckets: Annotated[
        bool, typer.Option("--buckets", help="Also the buckets, images and keys; without it they stay.")
    ] = False,
    delete_bucket: Annotated[
        list[str] | None, typer.Option(help="A bucket whose data may be deleted; once for each.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Take cluster, network and databases down (databases leave a snapshot). Data in buckets stay unless named.

    Example: reelforge infra down --environment dev --buckets --delete-bucket raw --delete-bucket dvc
    """
    if delete_bucket and not buckets:
        raise UserError("--delete-bucket goes with --buckets: without it every bucket stays")
    named = set(delete_bucket or ()) if buckets else None
    life.take_down(environment_of(environment), named, _said, _asker(yes))


def _asker(yes: bool) -> Callable[[str], None]:
    """Asks, and ends the command where the answer is no."""

    def ask(question: str) -> None:
        if not yes:
            typer.confirm(question, abort=True)

    return ask


@app.command()
def status(
    environment: Name = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="Terraform's outputs, for a program.")] = False,
) -> None:
    """What is up, and which machines cost money now."""
    from flows.infra import aws

    found = environment_of(environment)
    output = found.output("profile")
    if as_json:
        typer.echo(json.dumps(output))
        return
    made = aws.session(output["region"])
    _said(f"{environment} in {output['region']}, account {output['account_id']}")
    _said(f"cluster   {output['cluster']['name'] or 'down'}")
    for use, name in output["buckets"].items():
        _said(f"bucket    {name}  ({use}, {aws.bucket_state(made, name)})")
    machines = aws.running_machines(made, environment)
    for machine in machines:
        hours = (datetime.now(UTC) - machine["LaunchTime"]).total_seconds() / 3600
        _said(f"machine   {machine['InstanceType']}  {machine['InstanceId']}  for {hours:.1f} h")
    _said(f"{len(machines)} machines run")


@app.command()
def kubeconfig(environment: Name = "dev") -> None:
    """Give kubectl access to the cluster (through the AWS command line, which signs its requests)."""
    output = environment_of(environment).output("profile")
    if not output["cluster"]["name"]:
        raise UserError(f"{environment} has no cluster: `reelforge infra up`")
    program = shutil.which("aws", path=search_path())
    if program is None:
        raise UserError(
            "the AWS command line is not installed: https://aws.amazon.com/cli (`pip install awscli`)"
        )
    cluster = ["--region", output["region"], "--name", output["cluster"]["name"]]
    code = subprocess.run([program, "eks", "update-kubeconfig", *cluster], check=False).returncode
    if code != 0:
        raise UserError(
            f"`aws eks update-kubeconfig` ended with {code}; `reelforge doctor` checks the credentials"
        )


@app.command()
def profile(
    environment: Name = "dev",
    inside: Annotated[
        bool, typer.Option("--inside", help="For a process in the cluster: services by their names there.")
    ] = False,
) -> None:
    """Write profile.yaml and DVC's remote from Terraform's outputs: this workspace then uses the deployed platform."""
    from components.params import LOCAL_STORE
    from components.profile import FILE
    from flows.infra import aws, platform_profile
    from flows.services.profile_file import settle

    output: dict[str, Any] = environment_of(environment).output("profile")
    made = platform_profile.profile_of(output, inside=inside)
    path = ROOT / FILE
    if path.is_file() and "made_by: reelforge services" in path.read_text():
        raise UserError("services of this machine are in force: `reelforge services down` first")
    if not inside:
        session = aws.session(output["region"])
        platform_profile.write_sign_in(ROOT.resolve(), output, lambda arn: aws.secret(session, arn))
    settle(ROOT, made)
    _said(f"profile.yaml points this workspace at {environment}; REELFORGE_PROFILE=none sets it aside")
    _said(f"tables and latents lie in {made.store}, unless runtime.store in params.yaml says another place")
    if (ROOT / LOCAL_STORE).is_dir():
        _said(f"  what is in {LOCAL_STORE}/ goes there with: {_copy(LOCAL_STORE, str(made.store))}")
    if not inside:
        _said("leave running, so that MLflow and Prefect are reached from here:")
        for command in platform_profile.forward_commands(output):
            _said(f"  {command}")


def _copy(folder: str, place: str) -> str:
    return f"aws s3 sync {folder} {place} --exclude 'cache/*'"
