"""What a system has cost its authors, beside the same from our arithmetic: how far a plan can be trusted.

Open-Sora 1.2 took about 35,000 H100-hours for 68,000 steps on 96 GPUs, with autoencoder and text encoder run in every
step. The share of the peak that its authors reached is known of the same layers at the same width: STDiT trained at
28,000, 23,000 and 25,000 tokens a second on one H800, with 4 k, 16 k and 65 k tokens a clip (docs/acceleration.md).
A layer of it has 18 width^2 weights a token, so with its attention that is 4.2 to 4.5 GFLOP a token forward and
backward, and 11.8, 10.4 and 11.3 % of 989 TFLOP/s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from components.data.buckets import Bucket
from components.data.forecast import Request
from components.planning.clock import Work, slowest_seconds
from components.planning.denoiser import trained
from components.planning.devices import DEVICES, Cluster
from components.planning.flops import META, count_flops
from components.planning.mix import Slot, clips_for, mix_of
from components.planning.networks import Networks
from components.planning.parts import HOUR, Comparison
from components.planning.steps import step_of
from models.autoencoders.codec import VideoCodec

# FLOPs of the encoder of T5 v1.1 XXL a token: 24 layers of 4 x 4096^2 and 3 x 4096 x 10240 weights
T5_XXL_FLOPS = 2 * 24 * (4 * 4096**2 + 3 * 4096 * 10_240)
SIDES = (256, 512)  # pixels


@dataclass(frozen=True)
class Published:
    """A cost as it was published; `cluster` with the MFU that its authors `measured` of the same layers."""

    what: str
    gpu_hours: float
    cluster: Cluster
    stages: tuple[str, ...]
    measured: str


PUBLISHED: Mapping[str, Published] = {
    "open_sora_1_2": Published(
        what="Open-Sora 1.2: three stages on 96xH100, encoders run in every step",
        gpu_hours=35_000,
        cluster=Cluster(96, DEVICES["H100"], mfu=0.11),
        stages=("train@stage1", "train@stage2", "train@stage3"),
        measured="what its authors reached with STDiT on H800: 10.4 to 11.8 %",
    )
}


def compare(networks: Networks, requests: Mapping[str, Request]) -> Comparison | None:
    """The published cost of a recipe beside ours; None where none is known.

    Buckets are filled as published, by the walk of Open-Sora 1.2 over assumed clips, whatever the workspace holds.
    """
    known = PUBLISHED.get(networks.params.recipe)
    if known is None:
        return None
    last = networks.stages[known.stages[-1]]
    encoders = Encoders(networks.codec(networks.encoder_of(last).inputs["autoencoder"]), networks.text[1])
    parts = [_stage(networks, requests[name], known.cluster, encoders) for name in known.stages]
    training, encoding, seconds = (sum(part[index] for part in parts) for index in range(3))
    hours = seconds * known.cluster.count / HOUR
    paid = known.gpu_hours * HOUR * known.cluster.device.tflops * 1e12
    return Comparison(
        what=known.what,
        published_gpu_hours=known.gpu_hours,
        gpu_hours=hours,
        mfu=known.cluster.mfu,
        measured=known.measured,
        training_flops=training,
        encoder_flops=encoding,
        implied_mfu=(training + encoding) / paid,
    )


class Encoders:
    """FLOPs of what turns a clip and its caption into latents and text."""

    def __init__(self, codec: VideoCodec, text_tokens: int) -> None:
        self.codec = codec
        self.text = text_tokens * T5_XXL_FLOPS
        self._known: dict[int, tuple[float, float]] = {}

    def flops(self, bucket: Bucket) -> int:
        """Of one clip: whole chunks, what is left over, and the caption."""
        chunk = self.codec.geometry.chunk_frames or bucket.frames
        chunks, rest = divmod(bucket.frames, chunk)
        parts = [(chunks, chunk), (1, rest)]
        return self.text + sum(
            number * self._chunk((frames, bucket.height, bucket.width))
            for number, frames in parts
            if number * frames
        )

    def _chunk(self, size: tuple[int, int, int]) -> int:
        """Convolutions grow with the area and attention with its square: two areas tell both."""
        frames, height, width = size
        if frames not in self._known:
            small, large = (self._counted(frames, side) for side in SIDES)
            areas = [side**2 for side in SIDES]
            square = (large / areas[1] - small / areas[0]) / (areas[1] - areas[0])
            self._known[frames] = small / areas[0] - square * areas[0], square
        linear, square = self._known[frames]
        area = height * width
        return round(linear * area + square * area**2)

    def _counted(self, frames: int, side: int) -> int:
        clip = torch.empty(1, 3, frames, side, side, device=META)
        with torch.no_grad():
            return count_flops(self.codec, lambda twin: twin.moments(clip))


def _stage(
    networks: Networks, request: Request, cluster: Cluster, encoders: Encoders
) -> tuple[float, float, float]:
    """FLOPs of training and of the encoders on all GPUs, and seconds on the clock."""
    stage = networks.stages[request.stage]
    work = trained(stage, networks, cluster)
    mix = mix_of(request, clips_for(networks.params, request.batches), "published")
    steps = work.config.steps
    training = [step_of(work.keys, work.sample(slot), work.how).flops for slot in mix.slots]
    encoding = [slot.batch * encoders.flops(slot.bucket) for slot in mix.slots]
    works = [
        Work(slot.share, (one + other) / cluster.flops())
        for slot, one, other in zip(mix.slots, training, encoding, strict=True)
    ]
    batches = steps * cluster.count
    return (
        batches * _mean(mix.slots, training),
        batches * _mean(mix.slots, encoding),
        steps * slowest_seconds(works, cluster.count),
    )


def _mean(slots: Sequence[Slot], values: Sequence[float]) -> float:
    return sum(slot.share * value for slot, value in zip(slots, values, strict=True)) / sum(
        slot.share for slot in slots
    )
