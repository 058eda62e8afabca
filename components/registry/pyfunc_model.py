"""The registered model as MLflow serves it: prompts in, MP4 files out. Logged as code, with `models/` beside it.

model = mlflow.pyfunc.load_model("models:/reelforge-t2v@champion")
videos = model.predict(["a red circle moves left"], params={"seed": 7})
Path("first.mp4").write_bytes(videos[0])
"""

from typing import Any

import mlflow
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

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = TextToVideoPipeline.from_pretrained(context.artifacts["pipeline"], device=device)

    def predict(self, model_input: list[str], params: dict[str, Any] | None = None) -> list[bytes]:
        from models.generation.video_file import to_mp4

        changes = params or {}
        videos = self.pipeline(model_input, **changes)
        fps = changes.get("fps", self.pipeline.defaults.fps)
        return [to_mp4(video, fps) for video in videos]


mlflow.models.set_model(TextToVideo())
