"""How a score was measured, as an identity that two scores must share before anybody compares them.

An identity names the metric and a digest of what goes into it: change the number of frames, a seed, the
extractor or one reference clip, and the identity changes with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.artifacts import sha256_of_json
from components.evaluation.config import EvaluateConfig
from components.evaluation.identity import identity
from components.evaluation.reference import Reference

DDOF = 1


@dataclass(frozen=True)
class Sampling:
    """How the pipeline makes videos, beside what the parameters say."""

    sampler: str
    guidance_rescale: float
    precision: str


@dataclass(frozen=True)
class Protocol:
    """`generation`: what was asked of the model; `reference`: the real clips; `reading`: who looked at both."""

    generation: dict[str, Any]
    reference: dict[str, Any]
    reading: dict[str, Any]

    @classmethod
    def of(
        cls,
        config: EvaluateConfig,
        reference: Reference,
        *,
        extractor: str,
        sampling: "Sampling",
    ) -> "Protocol":
        """`extractor`: sha256 of its weights."""
        shape = {"frames": config.frames, "height": config.height, "width": config.width, "fps": config.fps}
        return cls(
            generation={
                **shape,
                "seed": config.seed,
                "seed_rule": "seed + index",
                "sampler": sampling.sampler,
                "steps": config.sampler.steps,
                "guidance": config.sampler.guidance,
                **({"guidance_rescale": sampling.guidance_rescale} if sampling.guidance_rescale else {}),
                "negative_prompt": config.negative_prompt,
                "precision": sampling.precision,
                "prompts": len(reference.clips),
                "prompts_sha256": sha256_of_json(reference.prompts),
                **({"scores": scores} if (scores := config.scores.model_dump(exclude_none=True)) else {}),
            },
            reference={
                **shape,
                "stride": 1,
                "window": "middle",
                "resize": "cover, centre crop",
                "clips": len(reference.clips),
                "splits": sorted({clip.split for clip in reference.clips}),
                "sha256": reference.digest,
            },
            reading={"extractor_sha256": extractor, "resize": "area", "ddof": DDOF},
        )

    def as_json(self) -> dict[str, Any]:
        return {"generation": self.generation, "reference": self.reference, "reading": self.reading}

    def distance(self, metric: str, *, network: Mapping[str, Any] | None = None, **more: Any) -> str:
        """Identity of a distance between generated and real clips, in the features of `network` (ours where None)."""
        reading = self.reading if network is None else dict(network)
        return identity(
            metric, {"generation": self.generation, "reference": self.reference, "reading": reading, **more}
        )

    def judged(self, metric: str, *, network: Mapping[str, Any] | None = None, **more: Any) -> str:
        """Identity of what `network` (our classifier where None) makes of the videos and their prompts."""
        reading = self.reading if network is None else dict(network)
        return identity(metric, {"generation": self.generation, "reading": reading, **more})

    def made(self, metric: str) -> str:
        """Identity of what is measured on the generated pixels alone."""
        return identity(metric, {"generation": self.generation})

    def real(self, metric: str, **more: Any) -> str:
        """Identity of what is measured on the reference clips, with `more` that decides it."""
        return identity(metric, {"reference": self.reference, **more})
