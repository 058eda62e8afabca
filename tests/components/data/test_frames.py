import sys

import numpy as np
import pytest
from video_files import counter_frame, read_counter, write_video

from components.data.frames import UndecodableError, frame_times, read_frames
from components.data.reasons import SourceReason
from components.data.video import VideoFile, scaled

SIZE = {"height": 64, "width": 160}


def counters(path, start, end, fps, **more):
    return [read_counter(frame) for frame in read_frames(path, start, end, fps=fps, **SIZE, **more)]


@pytest.fixture(scope="module")
def reordered(tmp_path_factory):
    """200 frames at 25 per second, long groups of pictures, frames stored in another order than shown."""
    path = tmp_path_factory.mktemp("videos") / "reordered.mp4"
    options = {"preset": "veryfast", "bf": "3", "g": "60", "sc_threshold": "0", "crf": "18"}
    return write_video(path, [counter_frame(index) for index in range(200)], options=options)


@pytest.mark.parametrize("first", [0, 1, 37, 59, 60, 61, 150, 199])
def test_a_stretch_begins_at_its_first_frame_and_ends_before_its_last(reordered, first):
    last = min(first + 7, 200)
    assert counters(reordered, first / 25, last / 25, 25) == list(range(first, last))


def test_frames_far_apart_are_the_nearest_ones(reordered):
    assert counters(reordered, 0.48, 8.0, 0.5) == [12, 62, 112]


def test_no_frame_before_the_stretch_is_used_even_if_it_is_nearer(reordered):
    assert counters(reordered, 0.49, 0.6, 25)[0] == 13  # frame 12 is at 0.48 s


def test_resampling_takes_the_frame_nearest_in_time(reordered):
    times = frame_times(1.0, 3.0, 8)
    expected = [min(range(200), key=lambda index: abs(index / 25 - time)) for time in times]
    assert counters(reordered, 1.0, 3.0, 8) == expected


def test_a_higher_rate_than_the_file_has_repeats_frames(reordered):
    assert counters(reordered, 1.0, 1.08, 50) == [25, 25, 26, 26]


def test_at_most_max_frames_are_read(reordered):
    assert counters(reordered, 0.0, 8.0, 25, max_frames=3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mkv", "libx264", "yuv420p10le"),
        (".avi", "mpeg4", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".mov", "mjpeg", "yuvj420p"),
    ],
)
def test_containers_codecs_and_ten_bits_give_the_same_frames(tmp_path, suffix, codec, pix_fmt):
    frames = [counter_frame(index) for index in range(40)]
    path = write_video(tmp_path / f"video{suffix}", frames, codec=codec, pix_fmt=pix_fmt)
    assert counters(path, 0.4, 0.8, 25) == list(range(10, 20))


def test_odd_sizes_are_read_whole(tmp_path):
    frames = [counter_frame(index, height=63, width=157) for index in range(5)]
    path = write_video(tmp_path / "odd.mp4", frames, pix_fmt="yuv444p")
    read = read_frames(path, 0.0, 0.2, fps=25, height=63, width=157)
    assert [read_counter(frame) for frame in read] == list(range(5))
    assert np.abs(read.astype(int) - np.stack(frames)).mean() < 4


def test_times_count_for_a_variable_frame_rate(tmp_path):
    times = [0.0, 0.1, 0.15, 1.0, 1.02, 2.0, 2.5]
    path = write_video(tmp_path / "variable.mp4", [counter_frame(index) for index in range(7)], times=times)
    nearest = [min(range(7), key=lambda index: abs(times[index] - k / 5)) for k in range(13)]
    assert counters(path, 0.0, 2.6, 5) == nearest


def test_a_clock_that_does_not_start_at_zero_makes_no_difference(tmp_path):
    times = [7.0 + index / 25 for index in range(30)]
    path = write_video(tmp_path / "late.mkv", [counter_frame(index) for index in range(30)], times=times)
    assert counters(path, 0.4, 0.6, 25) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_file_that_asks_to_be_turned_is_turned(tmp_path, rotation):
    upright = counter_frame(5)
    stored = np.rot90(upright, -rotation // 90)  # what a camera held sideways stores
    path = write_video(tmp_path / "turned.mp4", [stored] * 3, rotation=rotation)
    read = read_frames(path, 0.0, 0.12, fps=25, **SIZE)
    assert np.abs(read[0].astype(int) - upright).mean() < 4


def test_another_aspect_ratio_is_cropped_in_the_middle(tmp_path):
    frame = np.zeros((64, 160, 3), dtype=np.uint8)
    frame[:, 48:112] = 200  # the central square
    path = write_video(tmp_path / "wide.mp4", [frame] * 3)
    read = read_frames(path, 0.0, 0.12, fps=25, height=32, width=32)
    assert read.shape == (3, 32, 32, 3)
    assert read[:, :, 2:-2].min() > 180


def test_damaged_data_names_its_reason(tmp_path):
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    with pytest.raises(UndecodableError) as error:
        read_frames(path, 0.0, 1.0, fps=8, **SIZE)
    assert error.value.reason == SourceReason.UNREADABLE


def test_a_stretch_behind_the_end_names_the_file(reordered):
    with pytest.raises(UndecodableError, match=r"reordered\.mp4: no frame between 20\.000 s and 21\.000 s"):
        read_frames(reordered, 20.0, 21.0, fps=8, **SIZE)


@pytest.mark.parametrize("name", ["nasa_13013.mp4", "nasa_h265.mp4"])
def test_sought_frames_of_real_footage_equal_the_ones_decoded_in_order(name, real_footage):
    path = real_footage(name)
    with VideoFile(path) as video:
        every = [(timed.seconds, scaled(timed.frame, 48, 64)) for timed in video.frames()]
    for first in (0, len(every) // 3, len(every) - 3):
        stretch = every[first : first + 3]
        end = stretch[-1][0] + 1e-3
        with VideoFile(path) as video:
            times = [seconds for seconds, _ in stretch]
            found = list(video.nearest(times, start=times[0], end=end + 1e-3))
        for (_, pixels), timed in zip(stretch, found, strict=True):
            np.testing.assert_array_equal(scaled(timed.frame, 48, 64), pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that the system fails to read")
def test_a_read_that_the_system_failed_is_no_property_of_the_file(tmp_path):
    """A disk or mount that was in trouble must not mark a file as bad for all runs to come."""
    film = tmp_path / "film.mp4"
    film.symlink_to("/proc/self/mem")  # whose first page no process has: EIO
    with pytest.raises(UndecodableError, match="Input/output error") as refused:
        VideoFile(film)
    assert refused.value.reason == SourceReason.UNREACHABLE
    film.unlink()
    film.write_bytes(bytes(100_000))
    with pytest.raises(UndecodableError) as refused:
        VideoFile(film)
    assert refused.value.reason == SourceReason.UNREADABLE
