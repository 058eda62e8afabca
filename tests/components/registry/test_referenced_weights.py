"""Large files of registered models: stored once, found again by their address, and trusted by their digest only."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pytest

from components.artifacts import read_json, sha256_of
from components.errors import UserError
from components.params import Params
from components.registry.fetch import fetch_pipeline
from components.registry.promote import promote_by_hand, promote_by_verdict
from components.registry.register import register_candidate
from components.registry.versions import AUTOENCODER, TEXT_TO_VIDEO
from models.generation.pipeline import TextToVideoPipeline
from models.generation.references import REFERENCES
from tests import s3
from tests.components.registry.release_files import make_release

PROMPTS = ["a red circle moves left"]
CHAMPION = f"models:/{TEXT_TO_VIDEO}@champion"
LARGE = 0.01  # MB: the weights of the tiny models are larger, their settings are smaller


def release(root: Path, seed: int, store: str) -> Params:
    """Register another transformer with the same autoencoder and text encoder."""
    params = make_release(root, seed=seed)
    runtime = params.runtime.model_copy(update={"store": store, "registered_file_mb": LARGE})
    params = params.model_copy(update={"runtime": runtime})
    numbers = register_candidate(root, params)
    if seed == 1:
        promote_by_verdict(root, params, numbers)
    return params


def referenced(root: Path) -> list[list[dict]]:
    """What each registered version names, oldest first."""
    files = sorted((root / "mlartifacts").rglob(REFERENCES), key=lambda path: path.stat().st_mtime)
    return [read_json(path) for path in files]


@pytest.fixture
def tracked(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    return root


@pytest.fixture(params=["folder", "s3"])
def store(request, tracked):
    """Where `runtime.store` is, and the files that lie there by name."""
    if request.param == "folder":
        return "store", lambda: {path.name: path for path in (tracked / "store/weights").iterdir()}
    bucket, url = request.getfixturevalue("bucket"), request.getfixturevalue("s3_server")

    def keys():
        listed = s3.client(url).list_objects_v2(Bucket=bucket, Prefix="team/weights/")["Contents"]
        return {entry["Key"].rpartition("/")[2]: entry["Key"] for entry in listed}

    return f"s3://{bucket}/team", keys


def made_by(folder: Path) -> np.ndarray:
    """What a pipeline of this workspace generates."""
    return TextToVideoPipeline.from_pretrained(folder)(PROMPTS)


def made_by_champion(**config: str) -> np.ndarray:
    """The same of the model that MLflow loads, whose `predict` gives files."""
    model = mlflow.pyfunc.load_model(CHAMPION, model_config=config or None)
    assert [video[4:8] for video in model.predict(PROMPTS)] == [b"ftyp"]
    return model.unwrap_python_model().pipeline(PROMPTS)


def test_two_versions_with_one_autoencoder_store_it_once_and_both_generate(tracked, store):
    root, (uri, stored) = tracked, store
    release(root, 1, uri)
    first = made_by(root / "artifacts/pipeline")
    release(root, 2, uri)
    second = made_by(root / "artifacts/pipeline")
    autoencoder, one, two = referenced(root)
    digests = [{entry["file"]: entry["sha256"] for entry in version} for version in (one, two)]
    assert {entry["sha256"] for entry in autoencoder} <= set(digests[0].values())
    differing = {file for file in digests[0] if digests[0][file] != digests[1][file]}
    assert differing == {file for file in digests[0] if file.startswith("transformer/")}
    assert sorted(stored()) == sorted({entry["uri"].rpartition("/")[2] for entry in [*one, *two]})
    inside = {path.name for path in (root / "mlartifacts").rglob("*.safetensors")}
    assert inside == {"features.safetensors"}, "a copy of the weights went into a version"
    assert np.array_equal(made_by_champion(), first)
    assert not np.array_equal(first, second)
    promote_by_hand(root, 2, person="A. Reviewer", reason="the other one")
    assert np.array_equal(made_by_champion(), second)
    folder = fetch_pipeline(root, "champion")
    assert sha256_of(folder) == sha256_of(root / "artifacts/pipeline")
    assert mlflow.artifacts.list_artifacts(f"models:/{AUTOENCODER}/1")


def test_a_changed_or_missing_file_is_refused_by_its_name(tracked, store, request):
    root, (uri, stored) = tracked, store
    release(root, 1, uri)
    (entry,) = [one for one in referenced(root)[1] if one["file"].startswith("transformer/")]
    place = stored()[Path(entry["uri"]).name]
    if isinstance(place, Path):
        content = bytearray(place.read_bytes())
        content[-1] ^= 1
        place.write_bytes(content)
    else:
        client = s3.client(request.getfixturevalue("s3_server"))
        client.put_object(Bucket=urlsplit(uri).netloc, Key=place, Body=b"another file")
    told = rf"{entry['file']} of this model was changed: .* {entry['sha256']} was registered"
    with pytest.raises(ValueError, match=told):
        mlflow.pyfunc.load_model(CHAMPION)
    with pytest.raises(UserError, match=told):
        fetch_pipeline(root, "champion")
    if isinstance(place, Path):
        place.unlink()
    else:
        client.delete_object(Bucket=urlsplit(uri).netloc, Key=place)
    with pytest.raises(ValueError, match=rf"{entry['file']} of this model cannot be read at {entry['uri']}"):
        mlflow.pyfunc.load_model(CHAMPION)


def test_a_store_that_was_moved_is_found_where_it_is_now(tracked):
    release(tracked, 1, "store")
    before = made_by(tracked / "artifacts/pipeline")
    shutil.move(tracked / "store/weights", tracked / "elsewhere")
    with pytest.raises(ValueError, match="cannot be read at file:"):
        mlflow.pyfunc.load_model(CHAMPION)
    assert np.array_equal(made_by_champion(weights=str(tracked / "elsewhere")), before)


def test_a_fetched_model_whose_weights_have_gone_is_refused_by_their_name(tracked):
    """The folder that is kept for the next time holds links into the store."""
    release(tracked, 1, "store")
    folder = fetch_pipeline(tracked, "champion")
    shutil.move(tracked / "store/weights", tracked / "elsewhere")
    with pytest.raises(UserError, match="cannot be read at file:"):
        fetch_pipeline(tracked, "champion")
    shutil.move(tracked / "elsewhere", tracked / "store/weights")
    assert fetch_pipeline(tracked, "champion") == folder
    assert sha256_of(folder) == sha256_of(tracked / "artifacts/pipeline")
