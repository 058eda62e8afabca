"""The registered model as MLflow serves it: prompts in, MP4 files out. Logged as code, with `models/` beside it.

model = mlflow.pyfunc.load_model("models:/reelforge-t2v@champion")
videos = model.predict(["a red circle moves left"], params={"seed": 7})
Path("first.mp4").write_bytes(videos[0])
"""

import io
from fractions import Fraction
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
        changes = params or {}
        videos = self.pipeline(model_input, **changes)
        fps = changes.get("fps", self.pipeline.defaults.fps)
        return [to_mp4(video, fps) for video in videos]


def to_mp4(frames: Any, fps: float) -> bytes:
    """frames: uint8 (T, H, W, 3) with even sides -> a file that browsers play."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


mlflow.models.set_model(TextToVideo())
