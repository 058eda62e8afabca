"""Generation pipeline: the same video in any batch, on disk or in memory, and errors before any work."""

import json

import numpy as np
import pytest
import torch

from models.diffusion.times import Times
from models.generation.layout import read_settings
from models.generation.pipeline import TextToVideoPipeline
from tests.tiny_parts import CAPTIONS
from tests.tiny_pipeline import SETTINGS

PROMPTS = [*CAPTIONS, "a green triangle", "", "a blue circle moves right"]


def differ(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - two.astype(int)).mean())


def test_videos_have_the_size_that_was_asked_for(pipeline):
    videos = pipeline(PROMPTS[:2])
    assert videos.shape == (2, 7, 16, 24, 3)
    assert videos.dtype == np.uint8
    assert videos.std() > 1


def test_a_still_image_is_a_video_of_one_frame(pipeline):
    assert pipeline(PROMPTS[:1], num_frames=1, height=32).shape == (1, 1, 32, 24, 3)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_batch_size_does_not_change_a_sample(pipeline, batch):
    together = pipeline(PROMPTS, batch=len(PROMPTS))
    apart = pipeline(PROMPTS, batch=batch)
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1  # rounding of other matrix shapes


def test_sample_i_starts_from_seed_plus_i(pipeline):
    both = pipeline(PROMPTS[:2], seed=5)
    second = pipeline(PROMPTS[1:2], seed=6)
    assert np.abs(both[1].astype(int) - second[0].astype(int)).max() <= 1


def test_equal_seeds_repeat_and_other_seeds_do_not(pipeline):
    one, two, other = (pipeline(PROMPTS[:1], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert differ(one, other) > 1


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.7},
        {"guidance_power": 2.0},
        {"steps": 5},
        {"fps": 30},
        {"negative_prompt": "blue square"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_setting_has_an_effect(pipeline, changes):
    assert differ(pipeline(PROMPTS[:1]), pipeline(PROMPTS[:1], **changes)) > 0.01


def test_the_prompt_has_an_effect(pipeline):
    assert differ(pipeline(PROMPTS[:1]), pipeline(PROMPTS[1:2])) > 0.01


def test_without_guidance_the_negative_prompt_is_not_read(pipeline):
    plain, negative = (
        pipeline(PROMPTS[:1], guidance_scale=1.0, negative_prompt=text) for text in ("", "blue")
    )
    assert np.array_equal(plain, negative)


def test_progress_counts_the_steps_of_all_batches(pipeline):
    seen = []
    pipeline(PROMPTS[:3], batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_saved_pipeline_generates_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    assert read_settings(tmp_path) == (pipeline.times, pipeline.defaults)
    loaded = TextToVideoPipeline.from_pretrained(tmp_path)
    assert np.array_equal(loaded(PROMPTS[:2]), pipeline(PROMPTS[:2]))
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "TextToVideoPipeline"


def test_a_saved_pipeline_of_v_prediction_keeps_its_objective(v_pipeline, tmp_path):
    v_pipeline.save_pretrained(tmp_path)
    loaded = TextToVideoPipeline.from_pretrained(tmp_path)
    assert loaded.objective == v_pipeline.objective
    assert np.array_equal(loaded(PROMPTS[:2]), v_pipeline(PROMPTS[:2]))
    with pytest.raises(ValueError, match="VPrediction, not with a flow"):
        _ = loaded.flow


def test_a_sampler_of_another_kind_is_refused(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    path = tmp_path / "scheduler/scheduler_config.json"
    path.write_text(path.read_text().replace("RectifiedFlow", "EulerDiscreteScheduler"))
    with pytest.raises(ValueError, match=r"EulerDiscreteScheduler.*RectifiedFlow, VPrediction or CausalFlow"):
        TextToVideoPipeline.from_pretrained(tmp_path)


def test_bfloat16_stays_near_float32(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    rounded = TextToVideoPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    full = pipeline(PROMPTS[:1])
    assert 0 < differ(full, rounded(PROMPTS[:1])) < 0.1 * full.std()


def test_half_precision_is_refused(pipeline):
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        pipeline.to("cpu", torch.float16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 20}, "height 20 is not a multiple of 8 px.*use 16 or 24"),
        ({"width": 4}, "width 4 is not a multiple of 8 px.*use 8 or 16"),
        ({"num_frames": 0}, "num_frames must be at least 1"),
        ({"steps": 0}, "steps must be positive"),
        ({"fps": 0}, "fps must be positive"),
        ({"guidance_rescale": 1.5}, r"guidance_rescale is a share in 0\.\.1, not 1.5"),
        ({"guidance_power": -1.0}, "guidance_power must be 0"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_that_does(pipeline, changes, message):
    with pytest.raises(ValueError, match=message):
        pipeline(PROMPTS[:1], **changes)


@pytest.mark.parametrize("prompts", ["a red circle", []])
def test_prompts_are_a_list(pipeline, prompts):
    with pytest.raises(ValueError, match="list with at least one"):
        pipeline(prompts)


def test_an_unknown_setting_is_refused(pipeline):
    with pytest.raises(TypeError, match="frames"):
        pipeline(PROMPTS[:1], frames=9)


def test_parts_of_different_models_are_refused(pipeline, text_folder):
    transformer = type(pipeline.transformer)(
        in_channels=3, depth=1, heads=2, head_width=16, caption_channels=32
    )
    with pytest.raises(ValueError, match=r"latent channels.*\(3 and 4\)"):
        TextToVideoPipeline(
            transformer=transformer,
            codec=pipeline.codec,
            text_encoder=pipeline.text_encoder,
            times=Times(),
            defaults=SETTINGS,
        )


def test_a_folder_that_is_not_whole_is_refused(pipeline, tmp_path):
    with pytest.raises(ValueError, match="no generation pipeline"):
        TextToVideoPipeline.from_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "vae").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no vae"):
        TextToVideoPipeline.from_pretrained(tmp_path)
