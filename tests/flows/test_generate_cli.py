"""`reelforge generate` with the folder of a model: from text, from an image, and longer than it makes at once."""

import av
import numpy as np
import pytest
from PIL import Image

from components.errors import UserError
from flows.cli.generate import generate
from tests.tiny_parts import CAPTIONS, tiny_text
from tests.tiny_pipeline import tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(tiny_text(folder / "text")).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def frames_in(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_one_file_per_prompt(model, tmp_path):
    generate(CAPTIONS, model=str(model), output=tmp_path, seed=7)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(f"{caption.replace(' ', '-')}-{7 + i}.mp4" for i, caption in enumerate(CAPTIONS))
    assert all(len(frames_in(path)) == 7 for path in tmp_path.iterdir())


def test_scores_are_said_to_the_model_and_not_in_the_name_of_the_file(model, tmp_path):
    prompt = CAPTIONS[0]
    generate([prompt], model=str(model), output=tmp_path / "plain")
    generate([prompt], model=str(model), output=tmp_path / "asked", aesthetic=6.5, camera="pan left")
    told = f"{prompt}. aesthetic score: 6.5, camera motion: pan left."
    generate([told], model=str(model), output=tmp_path / "told")
    plain, asked, same = (next((tmp_path / name).iterdir()) for name in ("plain", "asked", "told"))
    assert asked.name == plain.name
    assert asked.read_bytes() == same.read_bytes() != plain.read_bytes()
    with pytest.raises(UserError, match="pan right"):
        generate([prompt], model=str(model), output=tmp_path, camera="sideways")


def test_rounds_make_a_video_longer_and_leave_its_beginning(model, tmp_path):
    for name, rounds in (("short", 0), ("long", 2)):
        generate(CAPTIONS[:1], model=str(model), output=tmp_path / name, overlap=3, rounds=rounds)
    short, long = (frames_in(next((tmp_path / name).iterdir())) for name in ("short", "long"))
    assert len(long) == len(short) + 2 * (7 - 3)
    assert np.abs(long[:6].astype(int) - short[:6]).mean() < 3  # two encodings of the same frames


def test_an_image_is_what_a_video_begins_with(model, tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((32, 48, 3), (200, 30, 30), dtype=np.uint8)).save(picture)
    for name, first in (("free", None), ("given", picture)):
        generate(CAPTIONS[:1], model=str(model), output=tmp_path / name, first=first)
    free, given = (frames_in(next((tmp_path / name).iterdir())) for name in ("free", "given"))
    assert len(given) == len(free) == 7
    assert not np.array_equal(given[0], free[0])


def test_frames_that_do_not_fill_latents_are_refused_with_those_that_do(model, tmp_path):
    with pytest.raises(UserError, match="give 1, 3, 5"):
        generate(CAPTIONS[:1], model=str(model), output=tmp_path, overlap=2, rounds=1)
