"""Which files a data set is made of: all in a folder, or those that a manifest names, found below that folder."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from components.data.config import IngestConfig
from components.data.listing import Listed, Span, read_listing
from components.data.reasons import SourceReason
from components.errors import UserError
from components.params import place_in
from components.storage import SCHEME, ObjectPath, Place, files_below, names_below

EXTENSIONS = (
    *(".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"),
    *(".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"),
)
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")  # each is a video of one frame


@dataclass(frozen=True, slots=True)
class Source:
    """One file by its path below the videos folder; `reason` is set where there is nothing to read.

    `spans` are the clips that a manifest cuts it into, in seconds; None leaves that to the shot detector.
    """

    name: str
    spans: tuple[Span, ...] | None = None
    licence: str | None = None
    split: str | None = None
    reason: str = ""
    detail: str = ""


def find_sources(folder: Place, config: IngestConfig, root: Path = Path()) -> list[Source]:
    """The sources in order of their names, which are unique. Raises `UserError` when there are none.

    `folder` in an object store should be `listed`: each row of a manifest is looked for in it.
    """
    if config.manifest is None:
        return [Source(name) for name in find_videos(folder, images=config.images)]
    manifest = manifest_place(folder, config.manifest, root)
    sources = _merged(_located(folder, read_listing(manifest)))
    if not sources:
        raise UserError(f"the manifest {manifest} names no file")
    return [sources[name] for name in sorted(sources)]


def first_sources(folder: ObjectPath, *, images: bool = False) -> Iterator[Source]:
    """The video files of a bucket as they are listed, so that a few can be looked at without a list of all."""
    wanted = EXTENSIONS + (IMAGE_EXTENSIONS if images else ())
    names = (name for name in names_below(folder) if not _is_hidden(name))
    return (Source(name) for name in names if PurePosixPath(name).suffix.lower() in wanted)


def manifest_place(folder: Place, manifest: str, root: Path) -> Place:
    """Where a manifest lies: an `s3://` URI, an absolute path, or a path relative to the folder of videos."""
    if manifest.startswith(SCHEME):
        return place_in(root, manifest)
    return Path(manifest) if Path(manifest).is_absolute() else folder / manifest


def find_videos(folder: Place, *, images: bool = False) -> list[str]:
    """Names of the video files below the folder, sorted, and of `images`. Raises `UserError` with a way out."""
    way_out = (
        "put videos there, set `ingest.videos` in params.yaml, or make some with `reelforge stage footage`"
    )
    if isinstance(folder, Path) and not folder.is_dir():
        raise UserError(f"the folder of videos {folder} does not exist; {way_out}")
    every = [name for name in files_below(folder) if not _is_hidden(name)]
    if not every:
        raise UserError(f"the folder of videos {folder} is empty; {way_out}")
    wanted = EXTENSIONS + (IMAGE_EXTENSIONS if images else ())
    videos = [name for name in every if PurePosixPath(name).suffix.lower() in wanted]
    if not videos:
        raise UserError(
            f"none of the {len(every)} files in {folder} is a video; looked for {', '.join(wanted)}; {way_out}"
        )
    return videos


def is_image(name: str) -> bool:
    """True for a file that is one picture."""
    return PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _merged(sources: Iterable[Source]) -> dict[str, Source]:
    """One source per file; rows of the same file add their spans. A row for the whole file wins over spans."""
    found: dict[str, Source] = {}
    for source in sources:
        before = found.get(source.name)
        if before is None:
            found[source.name] = source
        elif before.spans is None or source.spans is None:
            found[source.name] = replace(before, spans=None)
        else:
            found[source.name] = replace(before, spans=before.spans + source.spans)
    return found


def _located(folder: Place, rows: Iterable[Listed]) -> Iterator[Source]:
    """Each row with the files that it means."""
    files: _Files | None = None
    for row in rows:
        if row.problem:
            yield Source(row.name, reason=SourceReason.BAD_ROW, detail=row.problem)
        elif row.published:
            files = files or _Files(folder)
            yield from _published(files, row)
        else:
            yield _plain(folder, row)


def _plain(folder: Place, row: Listed) -> Source:
    name = _relative(folder, row.name.replace("\\", "/"))
    path = PurePosixPath(name)
    source = Source(name, row.spans or None, row.licence, row.split)
    if path.is_absolute() or ".." in path.parts or name.startswith(SCHEME):
        detail = "lies outside of ingest.videos; paths of a manifest are relative to it"
        return replace(source, reason=SourceReason.MISSING, detail=detail)
    if path.suffix.lower() not in EXTENSIONS + IMAGE_EXTENSIONS:
        return replace(source, reason=SourceReason.UNREADABLE, detail=f"`{path.suffix}` is no video or image")
    if not (folder / name).is_file():
        return replace(source, reason=SourceReason.MISSING, detail="no such file below ingest.videos")
    return source


def _relative(folder: Place, name: str) -> str:
    """The name of a file relative to the folder, as it is where it lies elsewhere."""
    if isinstance(folder, ObjectPath):
        name = name.removeprefix(f"{folder}/")
    if name.startswith(SCHEME):
        return name
    path = PurePosixPath(name)
    root = PurePosixPath(folder.resolve().as_posix()) if isinstance(folder, Path) else path
    inside = path != root and path.is_absolute() and path.is_relative_to(root)
    return (path.relative_to(root) if inside else path).as_posix()


def _published(files: "_Files", row: Listed) -> Iterator[Source]:
    """The whole video, or those of its clips that were cut already."""
    if whole := files.find(row.name):
        yield Source(whole, row.spans or None, row.licence, row.split)
        return
    cut = [
        found for name in row.pieces if (found := files.find(PurePosixPath(name).with_suffix("").as_posix()))
    ]
    for name in cut:
        yield Source(name, None, row.licence, row.split)
    if not cut:
        detail = "neither the video nor one of its clips is below ingest.videos"
        yield Source(row.name, reason=SourceReason.MISSING, detail=detail)


class _Files:
    """The files of a folder by the end of their path, without suffix."""

    def __init__(self, folder: Place) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in files_below(folder):
            path = PurePosixPath(name)
            if path.suffix.lower() in EXTENSIONS + IMAGE_EXTENSIONS:
                self._by_stem[path.stem].append(name)

    def find(self, name: str) -> str | None:
        """The first file whose path, without its suffix, is `name` or ends with it."""
        wanted = PurePosixPath(name).parts
        for path in self._by_stem.get(wanted[-1] if wanted else "", ()):
            if PurePosixPath(path).with_suffix("").parts[-len(wanted) :] == wanted:
                return path
        return None
