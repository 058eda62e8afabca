import numpy as np
import pytest
import torch
from encode_workspace import config, make_workspace, paths_of

from components.artifacts import read_json
from components.data import encode
from components.data.clips import read_clips
from components.data.config import BatchesConfig
from components.data.dossier import latents_of
from components.data.forecast import Request, forecast
from components.data.forecast import read_clips as read_training_clips
from components.data.frames import read_frames
from components.data.latents import LatentStore
from components.data.loader import LatentBatches
from components.data.mirror import MIRRORED, PLAIN, VARIANTS, may_be_mirrored, mirrored
from components.data.video_batches import VideoBatches
from models.autoencoders import load_autoencoder


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle moves left over grey stone",
        "A car turns RIGHT.",
        "a left-handed guitarist",
        "the leftmost door",
        "waves. camera motion: pan left.",
        "the hands turn clockwise",
        "a shop sign at night",
        "the words fade in",
        "a street with billboards",
        'a banner that reads "open"',
        "a man holds “peace” up",
        "ein roter Kreis über Stein",
        "红色的圆",
    ],
)
def test_sides_and_writing_forbid_the_mirror(caption):
    assert not may_be_mirrored(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a blue square moves up over dark slate",
        "waves break on the shore. camera motion: zoom in.",
        "the man’s dog, brighter than snow",  # an apostrophe is no quotation mark, and `brighter` is no side
        "designers texture cloth",  # whole words count, not parts of them
    ],
)
def test_other_captions_allow_it(caption):
    assert may_be_mirrored(caption)


def test_mirrored_frames_have_their_columns_in_reverse_order():
    frames = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    for column in range(4):
        assert np.array_equal(mirrored(frames)[:, :, column], frames[:, :, 3 - column])
    assert np.array_equal(mirrored(mirrored(frames)), frames)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = make_workspace(tmp_path_factory.mktemp("mirror"))
    encode.run(config(flips=True, frames=(9,)), paths_of(folder))
    return folder


def test_a_mirrored_sample_is_the_latent_of_the_mirrored_window(root):
    store = LatentStore(paths_of(root).output("latents"), root=root)
    codec = load_autoencoder(root / "artifacts/autoencoder/stage3")
    manifest = root / "artifacts/clips/dedup.json"
    clips = {clip.clip_id: clip for clip in read_clips(manifest, root=root, videos=root / "data/footage")}
    looked = 0
    for family in store.manifest.families:
        rows = store.rows(family)
        latents, *_ = store.read(family, range(len(rows)))
        for row in np.flatnonzero(rows.variants == VARIANTS.index(MIRRORED)).tolist():
            clip = clips[rows.clip_ids([row])[0]]
            size = {"height": family.height, "width": family.width}
            whole = read_frames(clip.path, clip.start_seconds, clip.end_seconds, fps=8, **size)
            window = whole[rows.windows[row] :][: family.frames][:, :, ::-1].copy()
            frames = torch.from_numpy(window).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            with torch.inference_mode():
                expected = codec.encode(frames)[0]
            assert torch.allclose(latents[row], expected, atol=2e-3 * float(expected.abs().max()))
            looked += 1
    assert looked == 6  # three clips that name no side, two windows


def test_only_allowed_captions_have_a_mirrored_sample_beside_each_plain_one(root):
    store = LatentStore(paths_of(root).output("latents"), root=root)
    manifest = root / "artifacts/clips/dedup.json"
    captions = {clip.clip_id: clip.caption for clip in read_clips(manifest, root=root, videos=root)}
    found = {PLAIN: set(), MIRRORED: set()}
    for family in store.manifest.families:
        rows = store.rows(family)
        for name, window, variant in zip(rows.clip_ids(), rows.windows, rows.variants, strict=True):
            found[VARIANTS[variant]].add((name, int(window), family.name))
    allowed = {each for each in found[PLAIN] if may_be_mirrored(captions[each[0]])}
    assert found[MIRRORED] == allowed
    named = {name for name, caption in captions.items() if {"left", "right"} & set(caption.split())}
    assert {name for name, *_ in allowed} == set(captions) - named
    assert len(named) == 3


@pytest.mark.parametrize("source", ["latents", "videos"])
def test_the_forecast_counts_mirrored_samples_as_training_will_draw_them(root, source):
    wanted = BatchesConfig(buckets={"32px": {9: (0.7, 2)}}, seed=1, small_bucket="repeat", source=source)
    opened = VideoBatches if source == "videos" else LatentBatches
    batches = opened(paths_of(root).output("latents"), root=root, config=wanted)
    request = Request("train@stage1", wanted, config(flips=True, frames=(9,)))
    found = forecast(read_training_clips(root, captions=True), request)
    drawn = {
        (f.resolution, f.frames, f.aspect): s.kept
        for f, s in zip(batches.families, batches.schedule.streams, strict=True)
    }
    assert {(row.resolution, row.frames, row.aspect): row.kept for row in found.rows} == drawn
    assert found.batches == batches.schedule.batches_before(1)
    assert sum(row.offered for row in found.rows) == (4 if source == "videos" else 4 * 2 + 2 * 2)


def test_the_latents_of_a_clip_are_found_through_the_table(root):
    store = LatentStore(paths_of(root).output("latents"), root=root)
    clip = f"{2:016x}"
    found = list(latents_of(root, {clip}))
    rows = {family.name: store.rows(family).clip_ids().count(clip) for family in store.manifest.families}
    assert {one.family.split(" ", 1)[1]: one.rows for one in found} == {n: c for n, c in rows.items() if c}
    assert {one.file for one in found} <= {shard.file for shard in store.manifest.shards}
    assert list(latents_of(root, {"f" * 16})) == []


def test_pictures_show_every_bucket_as_the_store_holds_it_and_are_the_same_bytes_again(root):
    folder = paths_of(root).output("pictures")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    encode.run(config(flips=True, frames=(9,)), paths_of(root))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    index = read_json(folder / "pictures.json")
    assert [sheet["file"] for sheet in index] == ["32px-9x32x32.png", "32px-9x24x40.png"]
    from PIL import Image

    for sheet, (height, width) in zip(index, ((32, 32), (24, 40)), strict=True):
        lines = len(sheet["lines"])
        assert Image.open(folder / sheet["file"]).size == (
            6 * width + 4 * 2 + 8,
            lines * height + (lines - 1) * 2,
        )
        assert any(line["variant"] == MIRRORED for line in sheet["lines"])
