"""Given first frames: they are kept by either objective, and must fill whole latents."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.generation.given import check_head, from_pixels, reference_of
from models.shapes import LatentGeometry
from tests.tiny_parts import CAPTIONS
from tests.tiny_pipeline import SETTINGS

OPEN_SORA = LatentGeometry(channels=4, spatial_stride=8, temporal_stride=4, chunk_frames=17)


def pictures(count: int, frames: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures: each sample has a colour of its own."""
    colours = np.random.default_rng(seed).integers(0, 255, (count, 1, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (count, frames, 16, 24, 3)).copy()


def distance(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - two.astype(int)).mean())


@pytest.fixture(params=["pipeline", "v_pipeline"])
def either(request):
    """A pipeline of each objective."""
    return request.getfixturevalue(request.param)


def test_videos_from_one_picture_begin_alike_and_go_on_by_their_seeds(either):
    given = pictures(1, 1)
    one, two = (either(CAPTIONS[:1], given=given, seed=seed)[0] for seed in (1, 2))
    plain = [either(CAPTIONS[:1], seed=seed)[0] for seed in (1, 2)]
    assert distance(one[0], two[0]) < 0.3 * distance(one[-1], two[-1])
    assert distance(one[0], two[0]) < 0.3 * distance(plain[0][0], plain[1][0])


def test_another_picture_makes_another_video(either):
    one, two = (either(CAPTIONS[:1], given=pictures(1, 1, seed))[0] for seed in (1, 2))
    assert distance(one[0], two[0]) > 0.1


def test_every_video_begins_with_its_own_picture_in_any_batch(either):
    given, prompts = pictures(3, 3), [*CAPTIONS, "a green triangle"]
    together, apart = (either(prompts, given=given, batch=batch) for batch in (3, 1))
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1


def test_one_picture_serves_all_prompts(either):
    given = pictures(1, 1)
    shared = either(CAPTIONS, given=given)
    repeated = either(CAPTIONS, given=given.repeat(2, axis=0))
    assert np.abs(shared.astype(int) - repeated.astype(int)).max() <= 1


def test_pixels_become_the_values_that_a_codec_takes():
    given = np.zeros((1, 1, 16, 24, 3), dtype=np.uint8)
    given[..., 0], given[..., 1] = 255, 51
    frames = from_pixels(given, 2, replace(SETTINGS, num_frames=17), OPEN_SORA)
    assert frames.shape == (2, 3, 1, 16, 24)
    assert frames[:, :, 0, 0, 0].tolist() == [pytest.approx([1.0, -0.6, -1.0])] * 2


def test_given_latents_are_placed_at_the_head_and_kept():
    latents, noise = torch.randn(2, 4, 2, 3, 3), torch.randn(2, 4, 5, 3, 3)
    reference = reference_of(latents, noise)
    assert torch.equal(reference.latents[:, :, :2], latents)
    assert reference.strength.tolist() == [[0, 0, 1, 1, 1]] * 2


@pytest.mark.parametrize("frames", [17, 51, 34])
@pytest.mark.parametrize("given", [1, 5, 9, 13])
def test_heads_of_whole_latents_are_accepted(frames, given):
    check_head(OPEN_SORA, given, frames)


@pytest.mark.parametrize(("given", "frames"), [(2, 17), (17, 17), (20, 34), (4, 51), (0, 17)])
def test_heads_of_broken_latents_are_refused_with_those_that_fit(given, frames):
    with pytest.raises(ValueError, match=f"{given} given frames do not end.*give 1, 5, 9, 13"):
        check_head(OPEN_SORA, given, frames)


def test_a_still_image_cannot_be_given_its_only_frame():
    with pytest.raises(ValueError, match="make a longer video"):
        check_head(OPEN_SORA, 1, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pictures(1, 1).astype(float), "must be uint8"),
        (pictures(1, 1)[0], "must be uint8"),
        (pictures(3, 1), "3 videos for 2 prompts; give 1 or 2"),
        (pictures(1, 1)[:, :, :8], "height 8 and the video 16"),
        (pictures(1, 1)[:, :, :, :8], "width 8 and the video 24"),
        (pictures(1, 2), "give 1, 3, 5"),
    ],
    ids=["float", "one video", "count", "height", "width", "frames"],
)
def test_what_does_not_fit_is_refused_before_any_work(pipeline, given, message):
    with pytest.raises(ValueError, match=message):
        pipeline(CAPTIONS, given=given)
