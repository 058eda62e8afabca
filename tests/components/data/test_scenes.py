"""Shots of footage with known cuts and transitions. Seeds from 500 on; thresholds were set on seeds below 100."""

from itertools import pairwise

import numpy as np
import pytest
from effect_files import f1, make, score_of
from footage_workspace import ROOT
from textured_films import make_film

from components.data.config import Detector
from components.data.footage_effects import Kind
from components.data.scenes import check_detector, detect_scenes
from components.errors import UserError
from components.params import Params

CONFIG = Params.load(ROOT / "params.yaml").split
FRAME = 1 / 24


def starts(path):
    return [scene.start for scene in detect_scenes(path, CONFIG)]


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    wanted = {Kind.PLAIN: 2, Kind.FLASH: 2, Kind.WHIP: 2, Kind.DARK: 2, Kind.DISSOLVE: 3, Kind.FADE: 2}
    return {kind: make(folder, kind, files=files, seed=500 + files) for kind, files in wanted.items()}


def test_hard_cuts_are_found_at_their_frame_and_nothing_else_is(footage):
    kinds = (Kind.PLAIN, Kind.FLASH, Kind.WHIP, Kind.DARK)
    counts = [
        f1(starts(made.path)[1:], made.cuts, tolerance=0.6 * FRAME)
        for kind in kinds
        for made in footage[kind]
    ]
    assert sum(len(made.cuts) for kind in kinds for made in footage[kind]) == 32
    assert score_of(counts) >= 0.97


def test_dissolves_are_found_and_no_mixed_frame_is_in_a_shot(footage):
    counts, mixed, frames = [], 0, 0
    for made in footage[Kind.DISSOLVE]:
        scenes = detect_scenes(made.path, CONFIG)
        gaps = [(one.times[-1] + other.start) / 2 for one, other in pairwise(scenes)]
        middles = [sum(bounds) / 2 for bounds in made.dissolves]
        counts.append(f1(gaps, middles, tolerance=3 * FRAME))
        times = np.array([time for scene in scenes for time in scene.times])
        for start, end in made.dissolves:
            mixed += int(((times > start + 1.5 * FRAME) & (times < end - 1.5 * FRAME)).sum())
            frames += round((end - start) / FRAME) - 3
    assert score_of(counts) >= 0.85
    assert mixed < 0.15 * frames


def test_fades_are_in_no_shot(footage):
    for made in footage[Kind.FADE]:
        scenes = [(scene.start, scene.end) for scene in detect_scenes(made.path, CONFIG)]
        assert len(scenes) == len(made.plan.bounds)
        np.testing.assert_allclose(scenes, made.plan.bounds, atol=2.5 * FRAME)


def test_without_gradual_only_cuts_part_shots(footage):
    config = CONFIG.model_copy(update={"gradual": False})
    for made in footage[Kind.DISSOLVE]:
        assert len(detect_scenes(made.path, config)) < len(made.plan.scenes)


def test_black_between_scenes_is_a_shot_of_its_own(tmp_path):
    (made,) = make(tmp_path, Kind.BLACK, files=1, seed=509, scenes=3)
    hits, wrong, missed = f1(starts(made.path)[1:], made.cuts, tolerance=0.6 * FRAME)
    assert (hits, wrong, missed) == (4, 0, 0)


def test_a_detector_that_cannot_work_says_what_to_do():
    missing = CONFIG.model_copy(update={"detector": Detector.TRANSNETV2, "weights": "nowhere.pth"})
    with pytest.raises(UserError, match=r"nowhere\.pth is no file; download"):
        check_detector(missing)


def test_a_package_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr("components.data.scenes.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scenedetect-headless"):
        check_detector(CONFIG.model_copy(update={"detector": Detector.PYSCENEDETECT}))


def test_pyscenedetect_finds_what_the_package_finds_by_itself(footage):
    import scenedetect as package

    config = CONFIG.model_copy(update={"detector": Detector.PYSCENEDETECT})
    for made in (*footage[Kind.PLAIN], *footage[Kind.FLASH]):
        expected = package.detect(str(made.path), package.AdaptiveDetector(), start_in_scene=True)
        found = detect_scenes(made.path, config)
        assert [round(scene.start * 24) for scene in found] == [one.frame_num for one, _ in expected]
        assert sum(len(scene.times) for scene in found) == sum(
            after.frame_num - first.frame_num for first, after in expected
        )


def test_pans_over_fine_texture_are_neither_cuts_nor_dissolves(tmp_path):
    cuts, dissolves = [], []
    for seed in range(570, 577):
        hard = make_film(tmp_path / f"hard_{seed}.mp4", seed=seed, fps=24, dissolves=False)
        cuts.append(f1(starts(hard.path)[1:], list(hard.cuts), tolerance=0.6 * FRAME))
    for seed in range(570, 573):
        soft = make_film(tmp_path / f"soft_{seed}.mp4", seed=seed, fps=24, dissolves=True)
        scenes = detect_scenes(soft.path, CONFIG)
        gaps = [(one.times[-1] + other.start) / 2 for one, other in pairwise(scenes)]
        dissolves.append(f1(gaps, [sum(bounds) / 2 for bounds in soft.dissolves], tolerance=4 * FRAME))
    assert sum(hits + missed for hits, _, missed in cuts) == 35
    assert score_of(cuts) >= 0.97  # two slips are allowed
    assert score_of(dissolves) >= 0.85
