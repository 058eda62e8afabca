"""The registered model as MLflow serves it: prompts in, MP4 files out. Logged as code, with `models/` beside it.

Large files of the model may be references into the store of the workspace that registered it. They are fetched when it
is loaded, and one that is missing or was changed is an error by name. Where the store has been moved since, say where
to: `load_model(..., model_config={"weights": "/new/store/weights"})`, or `s3://bucket/prefix/weights`.

model = mlflow.pyfunc.load_model("models:/reelforge-t2v@champion")
videos = model.predict(["a red circle moves left"], params={"seed": 7})
Path("first.mp4").write_bytes(videos[0])
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext


class TextToVideo(PythonModel):  # type: ignore[misc]
    """One MP4 (H.264) per prompt.

    Parameters are the settings of a generation pipeline: `seed`, `steps`, `guidance_scale`, `negative_prompt`,
    `height`, `width`, `num_frames`, `fps`; the defaults are those the model was packaged with. Video i of a
    request is made with seed + i.
    """

    def load_context(self, context: PythonModelContext) -> None:
        import torch

        from models.generation.pipeline import TextToVideoPipeline
        from models.generation.references import Reference, put_together

        moved = (context.model_config or {}).get("weights", "")

        def fetch(reference: Reference, target: Path) -> None:
            uri = f"{moved.rstrip('/')}/{reference.uri.rpartition('/')[2]}" if moved else reference.uri
            _fetch(uri, target)

        device = "cuda" if torch.cuda.is_available() else "cpu"
        with TemporaryDirectory() as temporary:
            folder = put_together(Path(context.artifacts["pipeline"]), Path(temporary), fetch)
            self.pipeline = TextToVideoPipeline.from_pretrained(folder, device=device)

    def predict(self, model_input: list[str], params: dict[str, Any] | None = None) -> list[bytes]:
        from models.generation.video_file import to_mp4

        changes = params or {}
        videos = self.pipeline(model_input, **changes)
        fps = changes.get("fps", self.pipeline.defaults.fps)
        return [to_mp4(video, fps) for video in videos]


def _fetch(uri: str, target: Path) -> None:
    """A link to a local file, or a copy through MLflow of one that lies in an object store. Raises `OSError`."""
    address = urlsplit(uri)
    if address.scheme in {"", "file"}:
        target.symlink_to(url2pathname(address.path))
        return
    try:
        found = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target.parent))
    except MlflowException as error:
        raise OSError(str(error)) from None
    Path(found).replace(target)


mlflow.models.set_model(TextToVideo())
