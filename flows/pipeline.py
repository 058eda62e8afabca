"""The flows: `reelforge` and its sub-flows, in the order of the stage table.

A flow holds order, retries and limits. What a stage does, and whether it must run at all, is not decided here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from prefect import flow

from components.artifacts import sha256_of
from components.errors import UserError
from components.params import Params
from components.runtime import use_profile
from components.stage import Stage
from components.stages import stages_of
from components.tracking import pipeline_run
from flows import tasks
from flows.dvc import changed, descendants
from flows.observe import observer
from flows.preflight import check_models
from flows.tasks import Workspace, run_stage

EXTRACTOR, LADDER, EVALUATE, GATE = "extractor", "ladder", "evaluate", "gate"


@dataclass(frozen=True)
class Run:
    """One pass over a workspace: which stages are stale is asked of DVC once."""

    workspace: Workspace
    stale: frozenset[str]
    force: bool

    @classmethod
    def of(
        cls, root: str, stale: list[str] | None, *, parent_run: str | None = None, force: bool = False
    ) -> "Run":
        """`stale` None asks DVC. Raises `UserError` for bad parameters."""
        folder = Path(root).resolve()
        params = Params.load(folder / "params.yaml")
        if stale is None:
            stale = (
                list(stages_of(params))
                if force
                else sorted(descendants(changed(folder, params), folder, params))
            )
        return cls(Workspace(folder, params, parent_run), frozenset(stale), force)

    @property
    def stages(self) -> Mapping[str, Stage]:
        """What the workspace's parameters run, in order."""
        return stages_of(self.workspace.params)

    def touches(self, group: str) -> bool:
        """True if a stage of that group has to run."""
        return any(stage.group == group and stage.name in self.stale for stage in self.stages.values())

    def bring_up_to_date(self, group: str, *, only: frozenset[str] | None = None) -> None:
        """Run the stages of a group in order; each is a Prefect task run."""
        stage_task = run_stage.with_options(
            retries=self.workspace.params.runtime.retries, retry_delay_seconds=tasks.RETRY_SECONDS
        )
        for stage in self.stages.values():
            if stage.group == group and (only is None or stage.name in only):
                stage_task(stage.name, self.workspace, stale=stage.name in self.stale, force=self.force)


@contextmanager
def alone_in(root: str) -> Iterator[None]:
    """Refuse a second run in the same workspace: two would fight for the same files. Uses its services' profile."""
    use_profile(Path(root))
    lock_file = Path(root).resolve() / ".dvc" / "tmp" / "reelforge.lock"
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another run is at work in {root}; wait for it, or use a second clone") from None
    try:
        yield
    finally:
        lock.release()


@flow(name="data")
def data(
    root: str = ".", stale: list[str] | None = None, parent_run: str | None = None, force: bool = False
) -> None:
    """From files to a validated, captioned, deduplicated clip table, and the page that explains it."""
    run = Run.of(root, stale, parent_run=parent_run, force=force)
    check_models(run.workspace.root, run.workspace.params, run.stale)
    run.bring_up_to_date("data")
    if run.touches("data") or not tasks.has_data_report(run.workspace):
        tasks.data_report(run.workspace)


@flow(name="autoencoder")
def autoencoder(
    root: str = ".", stale: list[str] | None = None, parent_run: str | None = None, force: bool = False
) -> None:
    """Text encoder, 2D autoencoder, temporal autoencoder in three stages, latents."""
    Run.of(root, stale, parent_run=parent_run, force=force).bring_up_to_date("autoencoder")


@flow(name="adaptation")
def adaptation(
    root: str = ".", stale: list[str] | None = None, parent_run: str | None = None, force: bool = False
) -> None:
    """The image model, and the eight steps that make it a video model."""
    Run.of(root, stale, parent_run=parent_run, force=force).bring_up_to_date("adaptation")


@flow(name="training")
def training(
    root: str = ".", stale: list[str] | None = None, parent_run: str | None = None, force: bool = False
) -> None:
    """What the ladder sees with, the three video training stages, and the pipeline folder that people generate with."""
    run = Run.of(root, stale, parent_run=parent_run, force=force)
    run.bring_up_to_date("evaluation", only=frozenset({EXTRACTOR}))
    run.bring_up_to_date("training")


@flow(name="evaluation")
def evaluation(
    root: str = ".", stale: list[str] | None = None, parent_run: str | None = None, force: bool = False
) -> None:
    """Score the candidate if its ladder is worth it, fetch the champion's scores, decide."""
    run = Run.of(root, stale, parent_run=parent_run, force=force)
    if tasks.sync_ladder(run.workspace):
        run = replace(run, stale=run.stale | {LADDER})
    verdict = run.workspace.root / run.stages[LADDER].outputs["verdict"]
    before = sha256_of(verdict) if verdict.exists() else ""
    by_itself = {EXTRACTOR} if stale is None else set()  # else training has seen to it
    run.bring_up_to_date("evaluation", only=frozenset({LADDER, *by_itself}))
    if sha256_of(verdict) != before:
        run = replace(run, stale=run.stale | {EVALUATE, GATE})
    run.bring_up_to_date("evaluation", only=frozenset({EVALUATE}))
    if tasks.sync_baseline(run.workspace):
        run = replace(run, stale=run.stale | {GATE})
    run.bring_up_to_date("evaluation", only=frozenset({GATE}))


@flow(name="release")
def release(root: str = ".", parent_run: str | None = None) -> str:
    """Register, promote if the verdict says so, write the report page; its path."""
    folder = Path(root).resolve()
    workspace = Workspace(folder, Params.load(folder / "params.yaml"), parent_run)
    versions = tasks.register(workspace)
    tasks.promote(workspace, versions)
    return tasks.report(workspace)


@flow(name="reelforge", flow_run_name="reelforge-{recipe}")
def reelforge(root: str = ".", recipe: str = "params", force: bool = False) -> str:
    """From raw videos to a verdict, and to a champion if the verdict is to promote; path of the report page."""
    folder = Path(root).resolve()
    params = Params.load(folder / "params.yaml")
    with alone_in(root), pipeline_run(folder, params, name=f"reelforge-{recipe}") as parent_run:
        stale = sorted(Run.of(root, None, force=force).stale)
        observer().plan(list(stages_of(params)), set(stale))
        for part in (data, autoencoder, adaptation, training, evaluation):
            part(root, stale=stale, parent_run=parent_run, force=force)
        page = release(root, parent_run=parent_run)
        tasks.tell_how_to_share(folder, params)
        return page


@flow(name="data-refresh")
def data_refresh(root: str = ".") -> None:
    """Nightly: take in what is new, up to a validated table."""
    with alone_in(root):
        data(root)
        tasks.tell_how_to_share(Path(root).resolve(), Params.load(Path(root) / "params.yaml"))


@flow(name="evaluate-candidate")
def evaluate_candidate(root: str = ".") -> str:
    """Score the newest trained model against the champion, and release it if it is better; path of the page."""
    with alone_in(root):
        evaluation(root)
        return release(root)
