"""Every system beside Open-Sora, in miniature, from clips to a champion that people generate with.

Its stages run one after the other in this process, as DVC would run them; the pipeline of Open-Sora is taken through
DVC, Prefect and the command line in test_whole_pipeline.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest

from components.artifacts import read_json, sha256_of
from components.params import Params
from components.registry.fetch import fetch_pipeline
from components.registry.lineage import lineage_of
from components.registry.promote import promote_by_verdict
from components.registry.register import VERDICT, register_candidate
from components.registry.report import publish_report
from components.registry.versions import TEXT_TO_VIDEO, versions, with_alias
from components.report import Report
from components.stages import execute, stages_of
from flows.cli import generate
from models.generation.video_file import WATCHABLE_SIDE
from tests.tiny_recipes import STEPS, make_shared, write_recipe

LARGEST = {
    "walt": (16, 24),
    "hdvila": (64, 64),
    "causal": (48, 48),
}  # sizes that the candidate was trained at
MADE = {"text_encoder", "extractor"}  # by the fixture, for all systems
IMPOSSIBLE = 99.0  # dB


@dataclass
class Released:
    """A workspace after its release, and what was said on the way."""

    root: Path
    params: Params
    reports: dict[str, Report] = field(default_factory=dict)
    verdicts: list[dict] = field(default_factory=list)
    promotions: list[str] = field(default_factory=list)

    def release(self) -> None:
        """Judge, register, promote if the verdict says so."""
        self.reports["gate"] = execute("gate", self.root)
        self.verdicts.append(read_json(self.root / VERDICT))
        numbers = register_candidate(self.root, self.params)
        self.promotions.append(promote_by_verdict(self.root, self.params, numbers))


@pytest.fixture(scope="module")
def shared(tmp_path_factory, empty_database):
    return make_shared(tmp_path_factory.mktemp("shared"), empty_database)


@pytest.fixture(scope="module", params=LARGEST)
def released(request, shared, tmp_path_factory):
    """Judged twice: with a floor that nothing keeps, then without."""
    root = tmp_path_factory.mktemp(request.param) / "workspace"
    shutil.copytree(shared, root)
    made = Released(root, write_recipe(root, request.param, min_reconstruction_psnr=IMPOSSIBLE))
    for stage in stages_of(made.params).values():
        if stage.group != "data" and stage.name not in {*MADE, "gate"}:
            made.reports[stage.name] = execute(stage.name, root)
    made.release()
    made.params = write_recipe(root, request.param)
    made.release()
    publish_report(root)
    return made


def test_every_stage_of_the_system_has_run_and_left_what_it_promises(released):
    own = [stage for stage in stages_of(released.params).values() if stage.name in released.reports]
    assert {stage.name for stage in own} >= {"package", "ladder", "evaluate", "gate"}
    assert sum(stage.trains for stage in own) >= 3  # an autoencoder, and at least two stages of a transformer
    for stage in own:
        assert all((released.root / path).exists() for path in stage.outputs.values()), stage.name
        assert Report.read(released.root / stage.report) == released.reports[stage.name]


def test_the_ladder_was_climbed_by_the_candidate(released):
    report = released.reports["ladder"]
    assert (report.metrics["survives"], report.metrics["used_step"]) == (1, STEPS)
    assert np.isfinite([report.metrics[f"ladder/{name}"] for name in ("validation_loss", "toy_fvd")]).all()


def test_a_candidate_below_a_floor_is_registered_and_kept_back_with_the_reason(released):
    refused = released.verdicts[0]
    assert refused["verdict"] == "reject"
    assert f"at least {IMPOSSIBLE:g} is asked" in refused["reason"]
    assert "v1 stays a candidate: reject" in released.promotions[0]


def test_the_candidate_that_keeps_the_floors_becomes_the_champion(released):
    verdict = released.verdicts[1]
    assert verdict["verdict"] == "promote"
    assert verdict["candidate"]["model_sha256"] == sha256_of(released.root / "artifacts/pipeline")
    assert {finding["status"] for finding in verdict["findings"]} == {"passed"}
    (version,) = versions(released.root, TEXT_TO_VIDEO)  # the same weights were registered once
    assert version.number == with_alias(released.root, TEXT_TO_VIDEO, "champion").number == 1
    assert version.tags["recipe"] == released.params.recipe
    assert lineage_of(released.root, version)["counts"] == {"train": 3, "validation": 3}


def test_the_command_line_generates_with_the_champion(released, monkeypatch, tmp_path):
    monkeypatch.setattr(generate, "ROOT", released.root)
    assert sha256_of(fetch_pipeline(released.root, "champion")) == sha256_of(
        released.root / "artifacts/pipeline"
    )
    generate.generate(["a red circle moves left"], model="champion", output=tmp_path)
    (path,) = tmp_path.glob("*.mp4")
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 9
    height, width = LARGEST[released.params.recipe.removesuffix("_tiny")]
    times = -(-WATCHABLE_SIDE // min(height, width))  # enlarged by a whole number, so that one can see it
    assert frames[0].shape == (times * height, times * width, 3)


def test_the_page_tells_of_the_champion_and_of_every_training_stage(released):
    page = (released.root / "reports/index.html").read_text()
    assert "<h1>Promoted</h1>" in page
    assert released.params.recipe in page
    assert page.count("<video") >= released.params.evaluate.gallery
    for stage in stages_of(released.params).values():
        if stage.trains:
            assert f"Loss of {stage.name} over {STEPS} steps" in page
