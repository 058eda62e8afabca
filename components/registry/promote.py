"""Move the aliases: who is champion is decided by the verdict and by nothing else.

The verdict names the champion it was reached against. If another promotion came first, it is void and the
promotion is refused; so of two releases that raced, one wins and the other has to be judged again.

What is going to change is written down in the registry before it is changed. A promotion or rollback that is killed
half way is finished by the next one, whichever workspace it comes from.
"""

import json
import logging
from pathlib import Path
from typing import Any

from components.artifacts import read_json
from components.errors import UserError
from components.params import Params
from components.registry.history import REASON_LIMIT, append_history, shared_history
from components.registry.lock import registry_lock
from components.registry.register import EVALUATION_TAG, VERDICT
from components.registry.versions import (
    AUTOENCODER,
    CHAMPION,
    PREVIOUS,
    TEXT_TO_VIDEO,
    Version,
    model_tags,
    versions,
    with_alias,
)
from components.tracking_writer import connect

log = logging.getLogger(__name__)

PROMOTE = "promote"
PENDING = "pending_change"  # tag of the registered model: a change of champion that has begun
BACK = "rolled back to"
KEPT = "kept back"


class PromotionRefusedError(UserError):
    """The verdict does not speak about this candidate and the present champion."""


def promote_by_verdict(root: Path, _params: Params, numbers: dict[str, str]) -> str:
    """Make the candidate champion if the verdict is to promote; what was done, in words.

    `numbers` are the versions that `register_candidate` gave. Raises `PromotionRefusedError` when the verdict is
    about another model, or was reached against a champion that is none any more.
    """
    verdict = read_json(root / VERDICT)
    with registry_lock(root):
        _finish(root)
        candidate = _version(root, TEXT_TO_VIDEO, numbers[TEXT_TO_VIDEO])
        champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
        _check_subject(verdict, candidate)
        if champion and champion.number == candidate.number:
            return f"{candidate} is the champion already"
        if verdict["verdict"] != PROMOTE:
            _record(root, _entry(KEPT, candidate, champion, verdict["reason"]))
            return f"{candidate} stays a candidate: {verdict['verdict']}, {verdict['reason']}"
        _check_rival(verdict, champion)
        if refused := _rolled_back(root, candidate):
            _record(root, _entry(KEPT, candidate, champion, refused))
            return f"{candidate} stays a candidate: {refused}"
        entry = _entry("promoted", candidate, champion, verdict["reason"])
        _change(root, entry, int(numbers[AUTOENCODER]))
    replaced = f" in place of v{champion.number}" if champion else ""
    return f"{candidate} is the champion now{replaced}"


def promote_by_hand(root: Path, number: int, *, person: str, reason: str) -> str:
    """Make a version champion against or without a verdict: the recorded override of a named person.

    Raises `UserError` for a version that is not there, and without a name and a reason.
    """
    if not person.strip() or not reason.strip():
        raise UserError("an override is recorded: give the name of who answers for it and the reason")
    with registry_lock(root):
        _finish(root)
        candidate = _version(root, TEXT_TO_VIDEO, str(number))
        champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
        if champion and champion.number == number:
            return f"{candidate} is the champion already"
        verdict = candidate.tags.get("verdict", "none")
        said = f"override by {person} of the verdict `{verdict}`: {reason}"
        entry = _entry("promoted by override", candidate, champion, said)
        _change(root, entry, _autoencoder_of(candidate))
    return f"{candidate} is the champion now, by override of {person}"


def rollback(root: Path, reason: str) -> str:
    """Give the champion's alias back to the previous champion; what was done, in words.

    The two change places, so a second rollback undoes the first. Raises `UserError` if there is no previous one.
    """
    with registry_lock(root):
        finished = _finish(root)
        if finished and finished["event"] == BACK:
            return f"v{finished['version']} is the champion again: a rollback that was stopped is finished"
        champion, previous = (with_alias(root, TEXT_TO_VIDEO, alias) for alias in (CHAMPION, PREVIOUS))
        if champion is None or previous is None:
            raise UserError(
                "there is no previous champion to go back to; `reelforge status` names the champion"
            )
        _change(root, _entry(BACK, previous, champion, reason), _autoencoder_of(previous))
    return f"{previous} is the champion again in place of v{champion.number}"


def _version(root: Path, name: str, number: str) -> Version:
    known = {version.number: version for version in versions(root, name)}
    if int(number) not in known:
        raise UserError(f"{name} has no version {number}; it has {', '.join(map(str, known)) or 'none'}")
    return known[int(number)]


def _autoencoder_of(version: Version) -> int | None:
    """Number of the autoencoder that a version was made with: the champion among the autoencoders."""
    used = version.tags.get("parent.autoencoder", "").rpartition(" v")[2]
    return int(used) if used else None


def _rolled_back(root: Path, candidate: Version) -> str:
    """Why a verdict may not promote the candidate: it was champion, and a person took that back. Empty if not."""
    for entry in reversed(shared_history(root)):
        if entry["event"] == BACK and entry["champion_before"] == candidate.number:
            return (
                f"it was champion until {entry['time'][:10]}, when it was rolled back ({entry['reason']}); to make it"
                f" champion again: `reelforge promote --override --version {candidate.number} --by NAME --reason TEXT`"
            )
        if entry["event"] != KEPT and entry["version"] == candidate.number:
            return ""
    return ""


def _check_subject(verdict: dict[str, Any], candidate: Version) -> None:
    judged = verdict["candidate"]["model_sha256"]
    if judged != candidate.digest:
        raise PromotionRefusedError(
            f"the verdict is about the model {judged[:12]}, but {candidate} is {candidate.digest[:12]};"
            " run `dvc repro gate` and release again"
        )


def _check_rival(verdict: dict[str, Any], champion: Version | None) -> None:
    compared = (verdict["champion"] or {}).get("model_sha256", "")
    present = champion.digest if champion else ""
    if compared != present:
        raise PromotionRefusedError(
            f"the verdict was reached against {compared[:12] or 'no champion'}, but the champion is"
            f" {f'{champion} ({present[:12]})' if champion else 'nobody'}; run `reelforge run` to judge again"
        )


def _entry(event: str, version: Version, champion: Version | None, reason: str) -> dict[str, Any]:
    """A line of the history."""
    return {
        "event": event,
        "model": version.name,
        "version": version.number,
        "model_sha256": version.digest,
        "evaluation_sha256": version.tags.get(EVALUATION_TAG, ""),
        "code": version.tags.get("code", ""),
        "champion_before": champion.number if champion else None,
        "reason": reason[:REASON_LIMIT],
    }


def _change(root: Path, entry: dict[str, Any], autoencoder: int | None) -> None:
    """Write down a change of champion, and make it. A history that could not be added to stops it before."""
    shared_history(root)
    used = with_alias(root, AUTOENCODER, CHAMPION)
    before = used.number if used else None
    pending = {"entry": entry, "autoencoder": autoencoder, "autoencoder_before": before}
    connect(root).set_registered_model_tag(TEXT_TO_VIDEO, PENDING, json.dumps(pending, ensure_ascii=False))
    _finish(root)


def _finish(root: Path) -> dict[str, Any] | None:
    """Make the change that is written down, from its beginning; its line of the history, None where there is none."""
    told = model_tags(root, TEXT_TO_VIDEO).get(PENDING)
    if told is None:
        return None
    pending = json.loads(told)
    entry: dict[str, Any] = pending["entry"]
    _move(root, TEXT_TO_VIDEO, entry["version"], entry["champion_before"])
    if pending["autoencoder"] is not None:
        _move(root, AUTOENCODER, pending["autoencoder"], pending["autoencoder_before"])
    _record(root, entry)
    connect(root).delete_registered_model_tag(TEXT_TO_VIDEO, PENDING)
    return entry


def _move(root: Path, name: str, number: int, before: int | None) -> None:
    """`previous` first: if this stops half way, the old champion is still champion."""
    if before == number:
        return
    client = connect(root)
    if before is not None:
        client.set_registered_model_alias(name, PREVIOUS, str(before))
    client.set_registered_model_alias(name, CHAMPION, str(number))


def _record(root: Path, entry: dict[str, Any]) -> None:
    earlier = shared_history(root)
    if earlier and all(earlier[-1].get(key) == value for key, value in entry.items()):
        return  # the same decision about the same evaluation, as when a release is repeated
    append_history(root, entry)
    log.info("%s v%d: %s (%s)", entry["model"], entry["version"], entry["event"], entry["reason"])
