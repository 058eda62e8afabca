"""From videos, features and real clips to the metrics of the record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from components.artifacts import sha256_of_json
from components.evaluation.attributes import CHANCE, Judgement, accuracy_metric
from components.evaluation.classifier import Reading
from components.evaluation.frechet import even_and_odd, frechet_distance, kernel_distance
from components.evaluation.inception import inception_score
from components.evaluation.motion import motion_energy, temporal_flickering
from components.evaluation.protocol import DDOF, Protocol
from components.evaluation.reconstruction import pooled_psnr, psnr, ssim
from components.evaluation.record import Distance, Metric
from components.evaluation.text_video import TextVideoEncoder

Frames = NDArray[np.uint8]
Features = NDArray[np.float32]
LEVELS = 255.0
TOY = "toy"  # features of the small extractor
COMPARED = {"toy_fvd": Distance(TOY, "frechet", DDOF), "toy_kvd": Distance(TOY, "kernel")}


@dataclass(frozen=True)
class FeatureSets:
    """Rows of features (N, D): of the model's videos, of the real clips, of an untrained model's videos."""

    generated: Features
    reference: Features
    untrained: Features

    def as_dict(self) -> dict[str, Features]:
        """As the features file names them."""
        return {
            f"{TOY}/generated": self.generated,
            f"{TOY}/reference": self.reference,
            f"{TOY}/untrained": self.untrained,
        }


def distances(features: FeatureSets, protocol: Protocol) -> dict[str, Metric]:
    """`toy_fvd`, `toy_kvd`, and the marks to read them by: an untrained model, and real clips in two halves.

    Fewer than four real clips have no halves with covariances: `toy_fvd_floor` has no value then.
    """
    real = features.reference
    count = len(features.generated)
    halves = even_and_odd(real)
    floor = frechet_distance(*halves, ddof=DDOF) if len(halves[1]) > 1 else None
    values = {
        "toy_fvd": (frechet_distance(real, features.generated, ddof=DDOF), count),
        "toy_fvd_untrained": (frechet_distance(real, features.untrained, ddof=DDOF), len(features.untrained)),
        "toy_fvd_floor": (floor, len(halves[1])),
        "toy_kvd": (kernel_distance(real, features.generated), count),
    }
    return {
        name: Metric(value, protocol.distance(name), higher_is_better=False, n=n, distance=COMPARED.get(name))
        for name, (value, n) in values.items()
    }


def accuracies(
    generated: Sequence[Judgement], real: Sequence[Judgement], protocol: Protocol
) -> dict[str, Metric]:
    """`<attribute>_accuracy` over all prompts; `_held_out` over combinations that training never showed.

    `_reference` is what the classifier reads in the real clips of the prompts: no model can be judged higher.
    """
    unseen = [one for one in generated if one.held_out]
    found = {}
    for attribute in CHANCE:
        name = f"{attribute}_accuracy"
        found[name] = accuracy_metric(attribute, generated, protocol.judged(name))
        name = f"{attribute}_accuracy_held_out"
        found[name] = accuracy_metric(attribute, unseen, protocol.judged(name))
        name = f"{attribute}_accuracy_reference"
        found[name] = accuracy_metric(attribute, real, protocol.real(name, reading=protocol.reading))
    return found


def toy_scores(
    ids: Sequence[str],
    prompts: Sequence[str],
    made: Reading,
    encoder: TextVideoEncoder,
    encoder_sha256: str,
    protocol: Protocol,
) -> dict[str, Metric]:
    """`toy_clipsim`: mean cosine of video and prompt; `toy_is`: Inception Score over the classifier's combinations.

    The Inception Score takes all samples as one split: ten splits of a few hundred would say little each.
    """
    similarity = dict(zip(ids, encoder.similarity(made.features, prompts).tolist(), strict=True))
    score, _ = inception_score(made.probabilities, splits=1)
    network = {**protocol.reading, "text_video_sha256": encoder_sha256}
    return {
        "toy_clipsim": mean_metric(similarity, protocol.judged("toy_clipsim", network=network)),
        "toy_is": Metric(score, protocol.judged("toy_is", splits=1), higher_is_better=True, n=len(ids)),
    }


def motion(ids: Sequence[str], generated: Frames, real: Frames, protocol: Protocol) -> dict[str, Metric]:
    """`motion_energy` and `temporal_flickering` of the generated videos, and the energy of the real ones."""
    energy = {name: motion_energy(clip) for name, clip in zip(ids, generated, strict=True)}
    still = {name: temporal_flickering(clip) for name, clip in zip(ids, generated, strict=True)}
    real_energy = {name: motion_energy(clip) for name, clip in zip(ids, real, strict=True)}
    return {
        "motion_energy": mean_metric(energy, protocol.made("motion_energy"), unit="share of 255"),
        "temporal_flickering": mean_metric(still, protocol.made("temporal_flickering")),
        "motion_energy_reference": mean_metric(
            real_energy, protocol.real("motion_energy_reference"), unit="share of 255"
        ),
    }


def reconstructions(
    ids: Sequence[str], originals: Frames, decoded: Frames, protocol: Protocol
) -> dict[str, Metric]:
    """PSNR and SSIM of clips through the autoencoder: mean over frames, then over clips."""
    pairs = {name: (one, two) for name, one, two in zip(ids, originals, decoded, strict=True)}

    def over_clips(score: Callable[..., float]) -> dict[str, float]:
        return {name: score(*pair, data_range=LEVELS) for name, pair in pairs.items()}

    def identity(name: str) -> str:
        return protocol.real(name, clips=list(ids))

    pooled = pooled_psnr(
        originals.reshape(-1, *originals.shape[2:]),
        decoded.reshape(-1, *decoded.shape[2:]),
        data_range=LEVELS,
    )
    return {
        "reconstruction_psnr": mean_metric(over_clips(psnr), identity("reconstruction_psnr"), unit="dB"),
        "reconstruction_ssim": mean_metric(over_clips(ssim), identity("reconstruction_ssim")),
        "reconstruction_psnr_pooled": Metric(
            pooled, identity("reconstruction_psnr_pooled"), higher_is_better=True, n=len(ids), unit="dB"
        ),
    }


def validation_loss(
    ids: Sequence[str],
    losses: NDArray[np.float64],
    protocol: Protocol,
    own: Mapping[str, Any],
    **decides: Any,
) -> dict[str, Metric]:
    """Mean loss. `decides`: times and seed; `own`: the autoencoder and the objective, which are the model's."""
    per_clip = dict(zip(ids, losses.tolist(), strict=True))
    identity = protocol.real("validation_loss", **decides, **own)
    metric = mean_metric(per_clip, identity, higher_is_better=False)
    return {"validation_loss": replace(metric, own=sha256_of_json(own)[:16])}


def mean_metric(
    per_item: Mapping[str, float], identity: str, *, higher_is_better: bool = True, unit: str = ""
) -> Metric:
    """The mean of the items, with the 95 % interval of a mean (Student's t)."""
    values = np.array(list(per_item.values()))
    mean = float(values.mean())
    interval = None
    if (count := len(values)) > 1:
        spread = float(stdtrit(count - 1, 0.975) * values.std(ddof=1) / np.sqrt(count))
        interval = (mean - spread, mean + spread)
    return Metric(
        mean, identity, higher_is_better, len(values), unit=unit, interval=interval, per_item=dict(per_item)
    )
