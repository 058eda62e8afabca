"""A training stage on latents of which one clip's are not finite: it ends, and names that clip."""

from components.stages import execute
from models.transformers.video_transformer import VideoTransformer
from tests.stage_workspace import STAGE, make_workspace


def test_a_clip_with_latents_that_are_not_finite_is_named_alone_and_does_no_harm(tmp_path):
    root = make_workspace(tmp_path, latents={"poisoned": 4}, steps=12, checkpoint_steps=5)
    report = execute(STAGE, root)
    assert [row["clip"] for row in report.quarantine] == [f"{4:016x}"]
    assert "not finite" in report.quarantine[0]["reason"]
    assert report.metrics["steps"] == 12
    model = VideoTransformer.from_pretrained(root / "artifacts/train/stage1")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
