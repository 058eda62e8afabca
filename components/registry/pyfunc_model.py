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

    Parameters: `seed`, `steps`, `guidance`, `height`, `width`, `frames`, `fps`; the defaults are what the model
    was evaluated with. Video i of a request is made with seed + i.
    """

    def load_context(self, context: PythonModelContext) -> None:
        from models.generation.pipeline import TextToVideoPipeline

        self.pipeline = TextToVideoPipeline.from_pretrained(context.artifacts["pipeline"])
        self.defaults = dict(context.model_config or {})

    def predict(self, model_input: list[str], params: dict[str, Any] | None = None) -> list[bytes]:
        wanted = {**self.defaults, **(params or {})}
        videos = self.pipeline(
            model_input,
            height=int(wanted["height"]),
            width=int(wanted["width"]),
            num_frames=int(wanted["frames"]),
            fps=int(wanted["fps"]),
            steps=int(wanted["steps"]),
            guidance_scale=float(wanted["guidance"]),
            seed=int(wanted["seed"]),
        )
        return [to_mp4(video, int(wanted["fps"])) for video in videos]


def to_mp4(frames: Any, fps: int) -> bytes:
    """frames: uint8 (T, H, W, 3) with even sides -> a file that browsers play."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


mlflow.models.set_model(TextToVideo())
