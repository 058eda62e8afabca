import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.shapes import LatentGeometry, token_grid

PUBLISHED = LatentGeometry(channels=4, spatial_stride=8, temporal_stride=4, chunk_frames=17)
SMALL = LatentGeometry(channels=8, spatial_stride=4, temporal_stride=2, chunk_frames=9)
CAUSAL = LatentGeometry(channels=8, spatial_stride=8, temporal_stride=4, chunk_frames=None, frame_step=4)
IMAGE = LatentGeometry(channels=4, spatial_stride=8, temporal_stride=1, chunk_frames=None)

geometries = st.builds(
    LatentGeometry,
    channels=st.just(4),
    spatial_stride=st.sampled_from([4, 8]),
    temporal_stride=st.sampled_from([1, 2, 4]),
    chunk_frames=st.none() | st.integers(1, 20),
)


@pytest.mark.parametrize(
    ("frames", "latents"),
    [(1, 1), (16, 4), (17, 5), (32, 9), (34, 10), (51, 15), (68, 20), (102, 30), (204, 60), (408, 120)],
)
def test_latent_lengths_are_those_of_the_published_autoencoder(frames, latents):
    assert PUBLISHED.latent_frames(frames) == latents


@given(geometries, st.integers(1, 100))
def test_a_clip_has_the_latents_of_its_chunks(geometry, frames):
    chunk = geometry.chunk_frames or frames
    lengths = [min(chunk, frames - start) for start in range(0, frames, chunk)]
    padded = [
        next(n for n in range(length, length + 99) if n % geometry.temporal_stride == 0) for length in lengths
    ]
    assert geometry.latent_frames(frames) == sum(n // geometry.temporal_stride for n in padded)


@given(geometries, st.integers(1, 40))
def test_one_frame_more_than_the_longest_clip_needs_another_latent(geometry, latents):
    longest = geometry.pixel_frames(latents)
    assert geometry.latent_frames(longest) == latents
    assert geometry.latent_frames(longest + 1) > latents


def test_sizes_round_down_to_whole_latents():
    assert PUBLISHED.latent_size(240, 426) == (30, 53)
    assert SMALL.latent_shape(9, 32, 32) == (8, 5, 8, 8)
    assert IMAGE.latent_shape(9, 32, 64) == (4, 9, 4, 8)
    assert SMALL.chunk_latents == 5
    assert IMAGE.chunk_latents is None


@given(st.integers(0, 50))
def test_a_causal_clip_has_one_latent_and_one_more_for_every_stride_of_frames(k):
    assert CAUSAL.latent_frames(1 + 4 * k) == 1 + k
    assert CAUSAL.pixel_frames(1 + k) == 1 + 4 * k


@given(st.integers(1, 100))
def test_a_causal_clip_of_another_length_is_refused_with_the_nearest_two(frames):
    taken = [length for length in range(1, 110) if length % 4 == 1]
    longest = max(length for length in taken if length <= frames)
    assert CAUSAL.longest_clip(frames) == longest
    if frames not in taken:
        with pytest.raises(
            ValueError, match=f"1 \\+ 4k frames, not of {frames}; use {longest} or {longest + 4}"
        ):
            CAUSAL.latent_frames(frames)
    assert PUBLISHED.longest_clip(frames) == frames


def test_tokens_round_up_to_whole_patches():
    assert token_grid((5, 30, 53)) == (5, 15, 27)


def test_sizes_without_a_latent_are_refused():
    with pytest.raises(ValueError, match="4x100 pixels"):
        PUBLISHED.latent_size(4, 100)
    with pytest.raises(ValueError, match="at least one frame"):
        PUBLISHED.latent_frames(0)
    with pytest.raises(ValueError, match="temporal_stride"):
        LatentGeometry(channels=4, spatial_stride=8, temporal_stride=0, chunk_frames=None)
