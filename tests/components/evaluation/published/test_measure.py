"""Published metrics of an evaluation: what their intervals say."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from components.evaluation.config import LpipsConfig, PublishedConfig
from components.evaluation.protocol import Protocol
from components.evaluation.published.measure import Material, Published
from components.evaluation.published.networks import FeatureNetwork, channels_first
from models.autoencoders import perceptual
from models.autoencoders.perceptual import PerceptualDistance

CLASSES = 4


def probabilities(table, clips):
    """Of the classes, for clips whose first pixel is their number."""
    return table[clips[:, 0, 0, 0, 0].long()]


@pytest.mark.parametrize("splits", [1, 4])
def test_the_interval_of_the_inception_score_is_that_of_a_mean_over_splits(splits):
    table = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(CLASSES), 40)).float()
    network = FeatureNetwork(partial(probabilities, table), channels_first, {}, torch.device("cpu"))
    clips = np.repeat(np.arange(40, dtype=np.uint8), 3 * 2 * 2).reshape(40, 1, 2, 2, 3)
    names = [str(index) for index in range(40)]
    published = Published(PublishedConfig(splits=splits), seed=0, inception=network)
    metrics, _ = published.measure(Material(names, names, clips, clips, clips), Protocol({}, {}, {}))
    found = metrics["inception_score"]
    if splits == 1:
        assert found.interval is None, "one split says nothing of how far the score may be off"
        return
    rows = table.double().numpy()[np.random.RandomState(42).permutation(40)].reshape(splits, -1, CLASSES)
    scores = [np.exp((part * np.log(part / part.mean(0))).sum(1).mean()) for part in rows]
    assert found.value == pytest.approx(np.mean(scores), rel=1e-5)
    error = 3.182446 * np.std(scores, ddof=1) / 2  # Student's t of three degrees of freedom, four splits
    assert found.interval == pytest.approx((found.value - error, found.value + error), rel=1e-4)


def test_the_identity_of_lpips_names_its_weights(tmp_path):
    """Other heads under the same path are another metric."""
    torch.manual_seed(0)
    network = PerceptualDistance(perceptual.alex())
    save_file(
        {f"features.{name}": value for name, value in network.features.state_dict().items()},
        tmp_path / "alexnet.safetensors",
    )
    config = PublishedConfig(
        lpips=LpipsConfig(network="alex", backbone="alexnet.safetensors", heads="heads.safetensors")
    )
    clips = np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64, 3), dtype=np.uint8)
    material = Material(["a"], ["a"], clips, clips, clips)
    found = []
    for strength in (1.0, 2.0, 1.0):
        heads = {
            f"lin{level}.model.1.weight": torch.full((1, len(head), 1, 1), strength)
            for level, head in enumerate(network.heads)
        }
        save_file(heads, tmp_path / "heads.safetensors")
        metrics, _ = Published.open(config, tmp_path, 1, 0).measure(material, Protocol({}, {}, {}))
        found.append(metrics["reconstruction_lpips"].identity)
    assert found[0] != found[1]
    assert found[0] == found[2]
