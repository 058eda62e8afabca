"""Which frames see which: blocks, the local window with its sink, and the layout for teacher forcing."""

import pytest
import torch

from models.transformers.causal import (
    FRAME_BY_FRAME,
    FrameBlocks,
    FrameMask,
    TeacherForcing,
    WholeClip,
    frame_mask,
    rows_alike,
    teacher_mask,
)


def drawn(mask: FrameMask) -> list[str]:
    return ["".join(".x"[seen] for seen in row) for row in mask]


def clip(blocks: FrameBlocks, frames: int) -> list[str]:
    return drawn(frame_mask(blocks, tuple(range(frames)), tuple(range(frames))))


def test_a_block_sees_itself_whole_and_everything_before():
    assert clip(FRAME_BY_FRAME, 3) == ["x..", "xx.", "xxx"]
    assert clip(FrameBlocks(size=2), 5) == ["xx...", "xx...", "xxxx.", "xxxx.", "xxxxx"]


def test_the_first_block_may_be_one_frame():
    assert clip(FrameBlocks(size=2, first=1), 5) == ["x....", "xxx..", "xxx..", "xxxxx", "xxxxx"]


def test_a_local_window_counts_back_from_the_end_of_the_block_and_the_sink_stays():
    assert clip(FrameBlocks(size=2, local=3), 6) == [
        "xx....",
        "xx....",
        ".xxx..",
        ".xxx..",
        "...xxx",
        "...xxx",
    ]
    assert clip(FrameBlocks(local=2, sink=1), 5) == ["x....", "xx...", "xxx..", "x.xx.", "x..xx"]


def test_in_teacher_forcing_noisy_blocks_see_earlier_clean_blocks_and_themselves():
    assert drawn(teacher_mask(FrameBlocks(size=2), 4)) == [
        "xx......",
        "xx......",
        "xxxx....",
        "xxxx....",
        "....xx..",
        "....xx..",
        "xx....xx",
        "xx....xx",
    ]


@pytest.mark.parametrize(
    "blocks", [FRAME_BY_FRAME, FrameBlocks(size=2, first=1), FrameBlocks(local=2, sink=1)]
)
def test_a_noisy_frame_sees_what_it_would_see_at_generation(blocks: FrameBlocks):
    frames = 5
    teacher = torch.tensor(teacher_mask(blocks, frames))[frames:]
    generation = torch.tensor(frame_mask(blocks, tuple(range(frames)), tuple(range(frames))))
    assert torch.equal(teacher[:, :frames] | teacher[:, frames:], generation)
    assert not (teacher[:, :frames] & teacher[:, frames:]).any()


def test_both_halves_of_teacher_forcing_have_the_same_positions():
    seen = []

    def place(query_key: torch.Tensor, first_frame: int) -> torch.Tensor:
        seen.append((tuple(query_key.shape[:2]), first_frame))
        return query_key + torch.arange(3).view(1, 3, 1, 1, 1, 1, 1)

    placed = TeacherForcing().place(torch.zeros(2, 6, 1, 1, 2, 1, 2), place)
    assert seen == [((4, 3), 0)]
    assert placed[1, :, 0, 0, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2]


def test_frame_by_frame_is_what_a_causal_window_says_already():
    assert WholeClip().mask(FRAME_BY_FRAME, 4) is None
    assert WholeClip().mask(FrameBlocks(size=2), 2) == ((True, True), (True, True))


def test_neighbours_that_see_the_same_are_run_together():
    mask = frame_mask(FrameBlocks(size=2, local=2, sink=1), tuple(range(4)), tuple(range(4)))
    assert rows_alike(mask) == [(slice(0, 2), (0, 1)), (slice(2, 4), (0, 2, 3))]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "use 1 frame or more"),
        ({"first": 0}, "use 1 frame or more"),
        ({"size": 3, "local": 2}, "a block of 3 must see itself whole"),
        ({"sink": -1}, "sink -1"),
    ],
)
def test_impossible_blocks_are_refused(options: dict[str, int], words: str):
    with pytest.raises(ValueError, match=words):
        FrameBlocks(**options)


def test_a_clean_frame_without_its_noisy_one_is_refused():
    with pytest.raises(ValueError, match="as many clean as noisy"):
        TeacherForcing().mask(FRAME_BY_FRAME, 5)
