"""Text found by a detector named by its path: a small network of the published format, with boxes known by hand."""

import cv2
import numpy as np
import pytest
from footage_workspace import ROOT
from onnx_files import write_detector
from video_files import write_video

from components.data.config import Scorer
from components.data.looks import Job
from components.data.scorers import SCORERS, check_weights, score_clip
from components.data.text_detector import UNCLIP, boxes, detected_share
from components.errors import UserError
from components.params import Params

CONFIG = Params.load(ROOT / "params.yaml").score


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("text") / "detector.onnx")


def picture(*lines, height=192, width=320):
    """Grey with white bars (left, top, width, height)."""
    frame = np.full((height, width, 3), 90, np.uint8)
    for left, top, wide, tall in lines:
        frame[top : top + tall, left : left + wide] = 255
    return frame


def grown(wide, tall):
    """The area of a box after the published growth: each side moves out by area times ratio over perimeter."""
    distance = UNCLIP * wide * tall / (2 * (wide + tall))
    return (wide + 2 * distance) * (tall + 2 * distance)


@pytest.mark.parametrize("lines", [[(40, 60, 120, 12)], [(40, 60, 120, 12), (30, 140, 200, 20)]])
def test_the_share_is_the_area_of_the_grown_boxes(weights, lines):
    expected = sum(grown(wide, tall) for _, _, wide, tall in lines) / (192 * 320)
    assert detected_share([picture(*lines)], weights) == pytest.approx(expected, rel=0.06)


def test_boxes_that_overlap_count_once_and_frames_are_averaged(weights):
    near = picture((40, 60, 120, 12), (40, 75, 120, 12))
    apart = picture((40, 60, 120, 12), (40, 140, 120, 12))
    assert detected_share([near], weights) < 0.8 * detected_share([apart], weights)
    both = detected_share([picture(), apart], weights)
    assert both == pytest.approx(detected_share([apart], weights) / 2)


def test_a_slanted_line_has_a_slanted_box():
    chances = np.zeros((200, 300), np.float32)
    corners = cv2.boxPoints(((150, 100), (180, 20), 25))
    cv2.fillPoly(chances, [corners.astype(np.int32)], 0.9)
    (box,) = boxes(chances)
    assert cv2.contourArea(box) == pytest.approx(grown(180, 20), rel=0.1)


def test_faint_and_tiny_spots_are_no_text():
    chances = np.zeros((100, 100), np.float32)
    chances[10:20, 10:60] = 0.29
    chances[50:52, 10:60] = 0.9
    assert boxes(chances) == []


def test_it_scores_clips_at_a_width_of_its_own(weights, tmp_path):
    line = (100, 300, 400, 24)
    still = [picture(line, height=384, width=640)] * 24
    path = write_video(tmp_path / "a.mp4", still, fps=24, options={"crf": "4"})
    off = dict.fromkeys(SCORERS, Scorer.DISABLE)
    config = CONFIG.model_copy(update={**off, "text": Scorer.ENABLE, "text_model": str(weights)})
    expected = grown(400, 24) / (384 * 640)
    for width in (None, 320):
        job = Job(path, 0.0, 1.0, 24.0, config.model_copy(update={"text_width": width}))
        assert score_clip(job)["text_share"] == pytest.approx(expected, rel=0.1)


def test_a_file_that_is_no_detector_is_named_before_work_starts(tmp_path, weights):
    def checked(path):
        check_weights(CONFIG.model_copy(update={"text_model": str(path)}))

    checked(weights)
    with pytest.raises(UserError, match=r"score.text_model: .*nowhere.onnx is no file; put a DB"):
        checked(tmp_path / "nowhere.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="cannot be run by OpenCV"):
        checked(tmp_path / "broken.onnx")
    with pytest.raises(UserError, match="one probability per pixel"):
        checked(write_detector(tmp_path / "logits.onnx", sigmoid=False))
