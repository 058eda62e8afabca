"""The published metrics of one evaluation: which are asked for, what they need, and their numbers.

All weights are opened before the first video is made, so that a missing file is found before the work and not after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit

from components.artifacts import sha256_of
from components.errors import UserError
from components.evaluation.config import LpipsConfig, PublishedConfig, WeightsConfig
from components.evaluation.frechet import frechet_distance, kernel_distance
from components.evaluation.frechet_infinity import FEWEST, SIZES, frechet_infinity
from components.evaluation.inception import inception_score
from components.evaluation.protocol import Protocol
from components.evaluation.published.clipsim import ClipSim
from components.evaluation.published.conventions import FVD_CONVENTIONS
from components.evaluation.published.networks import FeatureNetwork, Weights, fvd_network, scripted_network
from components.evaluation.record import Distance, Metric
from components.evaluation.scores import mean_metric
from models.autoencoders import perceptual
from models.autoencoders.perceptual import PerceptualDistance

Frames = NDArray[np.uint8]
Features = dict[str, NDArray[np.float32]]
SHUFFLE_SEED = 42  # of the samples before they are split for the Inception Score, as published


@dataclass(frozen=True)
class Material:
    """What is measured, row i of each belonging to clip `ids[i]`; `decoded` are the first clips through the codec."""

    ids: Sequence[str]
    prompts: Sequence[str]
    generated: Frames  # (N, T, H, W, 3)
    reference: Frames
    decoded: Frames


@dataclass
class Published:
    """The networks that are asked for, opened."""

    config: PublishedConfig
    seed: int
    fvd: dict[str, FeatureNetwork] = field(default_factory=dict)
    inception: FeatureNetwork | None = None
    fid: FeatureNetwork | None = None
    clipsim: ClipSim | None = None
    lpips: PerceptualDistance | None = None
    lpips_told: dict[str, str] = field(default_factory=dict)  # what identifies it

    @classmethod
    def open(cls, config: PublishedConfig, root: Path, frames: int, seed: int) -> "Published":
        """Raises `UserError` for weights that are missing or others, and for clips of a convention's wrong length."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        opened = cls(config, seed)
        for name, weights in config.fvd.items():
            convention = FVD_CONVENTIONS[name]
            if frames != convention.frames:
                raise UserError(
                    f"evaluate.published.fvd.{name} is defined for {convention.frames} frames,"
                    f" evaluate.frames is {frames}"
                )
            opened.fvd[name] = fvd_network(name, convention, _weights(weights, root), device)
        if config.inception_score:
            opened.inception = scripted_network(_weights(config.inception_score, root), device)
        if config.fid:
            opened.fid = scripted_network(_weights(config.fid, root), device, return_features=True)
        if config.clipsim:
            opened.clipsim = ClipSim(root / config.clipsim)
        if config.lpips:
            opened.lpips = _lpips(config.lpips, root).to(device)
            opened.lpips_told = {
                "network": config.lpips.network,
                "backbone_sha256": sha256_of(root / config.lpips.backbone),
                "heads_sha256": sha256_of(root / config.lpips.heads),
            }
        return opened

    def measure(self, material: Material, protocol: Protocol) -> tuple[dict[str, Metric], Features]:
        """All metrics by name, and the features that the gate compares."""
        metrics: dict[str, Metric] = {}
        features: Features = {}
        for name, network in self.fvd.items():
            metrics |= self._distances(name, network, material, protocol, features)
        if self.inception:
            metrics["inception_score"] = self._inception_score(self.inception, material, protocol)
        if self.fid:
            metrics["fid"] = self._fid(self.fid, material, protocol, features)
        if self.clipsim:
            metrics["clipsim"] = self.clipsim.metric(
                material.ids, material.prompts, material.generated, protocol
            )
        if self.lpips:
            metrics["reconstruction_lpips"] = self._lpips(self.lpips, material, protocol)
        return metrics, features

    def _distances(
        self, name: str, network: FeatureNetwork, material: Material, protocol: Protocol, features: Features
    ) -> dict[str, Metric]:
        """FVD, KVD, FVD at infinitely many samples, and the FVD of reconstructions, of one convention."""
        key, ddof = f"fvd_{name.replace('-', '_')}", FVD_CONVENTIONS[name].ddof
        real, made, decoded = (
            network.features(clips, batch=self.config.batch, title=f"{key}, {what}")
            for what, clips in (
                ("real", material.reference),
                ("generated", material.generated),
                ("decoded", material.decoded),
            )
        )
        features |= {f"{key}/generated": made, f"{key}/reference": real}
        identity = protocol.distance(key, network=network.identity)
        found = {
            key: Metric(
                frechet_distance(real, made, ddof=ddof),
                identity,
                higher_is_better=False,
                n=len(made),
                distance=Distance(key, "frechet", ddof),
            ),
            key.replace("fvd", "kvd", 1): Metric(
                kernel_distance(real, made),
                protocol.distance(key.replace("fvd", "kvd", 1), network=network.identity),
                higher_is_better=False,
                n=len(made),
                distance=Distance(key, "kernel"),
            ),
            f"r{key}": Metric(
                frechet_distance(real[: len(decoded)], decoded, ddof=ddof),
                protocol.real(f"r{key}", network=network.identity, clips=list(material.ids[: len(decoded)])),
                higher_is_better=False,
                n=len(decoded),
            ),
        }
        if len(made) >= FEWEST:
            line = frechet_infinity(real, made, seed=self.seed, ddof=ddof)
            told = protocol.distance(f"{key}_infinity", network=network.identity, sizes=SIZES, seed=self.seed)
            found[f"{key}_infinity"] = Metric(line.value, told, higher_is_better=False, n=len(made))
        return found

    def _inception_score(self, network: FeatureNetwork, material: Material, protocol: Protocol) -> Metric:
        rows = network.features(material.generated, batch=self.config.batch, title="inception score")
        order = np.random.RandomState(SHUFFLE_SEED).permutation(len(rows))  # the published shuffle
        splits = min(self.config.splits, len(rows))
        mean, deviation = inception_score(rows[order], splits=splits)
        identity = protocol.judged(
            "inception_score", network=network.identity, splits=splits, shuffle=SHUFFLE_SEED
        )
        interval = None
        if splits > 1:
            error = (
                float(stdtrit(splits - 1, 0.975)) * deviation / (splits - 1) ** 0.5
            )  # of a population's deviation
            interval = (mean - error, mean + error)
        return Metric(mean, identity, higher_is_better=True, n=len(rows), interval=interval)

    def _fid(
        self, network: FeatureNetwork, material: Material, protocol: Protocol, features: Features
    ) -> Metric:
        """Of the middle frame of each clip: frames of one video are not independent of each other."""
        middle = slice(material.generated.shape[1] // 2, material.generated.shape[1] // 2 + 1)
        real, made = (
            FeatureNetwork(
                lambda x: network.run(x[:, :, 0].to(torch.uint8)),
                network.prepare,
                network.identity,
                network.device,
            ).features(clips[:, middle], batch=self.config.batch, title="fid")
            for clips in (material.reference, material.generated)
        )
        features |= {"fid/generated": made, "fid/reference": real}
        return Metric(
            frechet_distance(real, made),
            protocol.distance("fid", network=network.identity, frame="middle"),
            higher_is_better=False,
            n=len(made),
            distance=Distance("fid", "frechet"),
        )

    @torch.inference_mode()
    def _lpips(self, network: PerceptualDistance, material: Material, protocol: Protocol) -> Metric:
        device = network.shift.device
        count = len(material.decoded)
        values: dict[str, float] = {}
        for row in range(count):
            pair = (
                torch.from_numpy(clips[row]).permute(3, 0, 1, 2)[None].float().div(127.5).sub(1.0).to(device)
                for clips in (material.reference, material.decoded)
            )
            values[material.ids[row]] = float(network(*pair))
        identity = protocol.real("reconstruction_lpips", **self.lpips_told, clips=list(material.ids[:count]))
        return mean_metric(values, identity, higher_is_better=False)


def _weights(config: WeightsConfig, root: Path) -> Weights:
    return Weights(root / config.path, config.sha256)


def _lpips(config: LpipsConfig, root: Path) -> PerceptualDistance:
    backbone = perceptual.alex() if config.network == "alex" else perceptual.vgg()
    try:
        return PerceptualDistance.from_files(root / config.backbone, root / config.heads, backbone)
    except (ValueError, OSError) as error:
        raise UserError(f"evaluate.published.lpips: {error}") from None
