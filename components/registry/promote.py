"""Move the aliases: who is champion is decided by the verdict and by nothing else.

The verdict names the champion it was reached against. If another promotion came first, it is void and the
promotion is refused; so of two releases that raced, one wins and the other has to be judged again.
"""

import logging
from pathlib import Path
from typing import Any

from components.artifacts import read_json
from components.errors import UserError
from components.params import Params
from components.registry.history import append_history, shared_history
from components.registry.lock import registry_lock
from components.registry.register import EVALUATION_TAG, VERDICT
from components.registry.versions import (
    AUTOENCODER,
    CHAMPION,
    PREVIOUS,
    TEXT_TO_VIDEO,
    Version,
    versions,
    with_alias,
)
from components.tracking_writer import connect

log = logging.getLogger(__name__)

PROMOTE = "promote"


class PromotionRefusedError(UserError):
    """The verdict does not speak about this candidate and the present champion."""


def promote_by_verdict(root: Path, _params: Params, numbers: dict[str, str]) -> str:
    """Make the candidate champion if the verdict is to promote; what was done, in words.

    `numbers` are the versions that `register_candidate` gave. Raises `PromotionRefusedError` when the verdict is
    about another model, or was reached against a champion that is none any more.
    """
    verdict = read_json(root / VERDICT)
    with registry_lock(root):
        candidate = _version(root, TEXT_TO_VIDEO, numbers[TEXT_TO_VIDEO])
        champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
        _check_subject(verdict, candidate)
        if champion and champion.number == candidate.number:
            return f"{candidate} is the champion already"
        if verdict["verdict"] != PROMOTE:
            _record(root, "kept back", candidate, champion, verdict["reason"])
            return f"{candidate} stays a candidate: {verdict['verdict']}, {verdict['reason']}"
        _check_rival(verdict, champion)
        _move(root, TEXT_TO_VIDEO, candidate.number, champion)
        _move(root, AUTOENCODER, int(numbers[AUTOENCODER]), with_alias(root, AUTOENCODER, CHAMPION))
        _record(root, "promoted", candidate, champion, verdict["reason"])
    replaced = f" in place of v{champion.number}" if champion else ""
    return f"{candidate} is the champion now{replaced}"


def promote_by_hand(root: Path, number: int, *, person: str, reason: str) -> str:
    """Make a version champion against or without a verdict: the recorded override of a named person.

    Raises `UserError` for a version that is not there, and without a name and a reason.
    """
    if not person.strip() or not reason.strip():
        raise UserError("an override is recorded: give the name of who answers for it and the reason")
    with registry_lock(root):
        candidate = _version(root, TEXT_TO_VIDEO, str(number))
        champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
        if champion and champion.number == number:
            return f"{candidate} is the champion already"
        _move(root, TEXT_TO_VIDEO, number, champion)
        _move_autoencoder(root, candidate)
        verdict = candidate.tags.get("verdict", "none")
        said = f"override by {person} of the verdict `{verdict}`: {reason}"
        _record(root, "promoted by override", candidate, champion, said)
    return f"{candidate} is the champion now, by override of {person}"


def rollback(root: Path, reason: str) -> str:
    """Give the champion's alias back to the previous champion; what was done, in words.

    The two change places, so a second rollback undoes the first. Raises `UserError` if there is no previous one.
    """
    with registry_lock(root):
        champion, previous = (with_alias(root, TEXT_TO_VIDEO, alias) for alias in (CHAMPION, PREVIOUS))
        if champion is None or previous is None:
            raise UserError(
                "there is no previous champion to go back to; `reelforge status` names the champion"
            )
        _move(root, TEXT_TO_VIDEO, previous.number, champion)
        _move_autoencoder(root, previous)
        _record(root, "rolled back to", previous, champion, reason)
    return f"{previous} is the champion again in place of v{champion.number}"


def _version(root: Path, name: str, number: str) -> Version:
    known = {version.number: version for version in versions(root, name)}
    if int(number) not in known:
        raise UserError(f"{name} has no version {number}; it has {', '.join(map(str, known)) or 'none'}")
    return known[int(number)]


def _move_autoencoder(root: Path, version: Version) -> None:
    """The champion among the autoencoders is the one that the champion was made with."""
    used = version.tags.get("parent.autoencoder", "").rpartition(" v")[2]
    if used:
        _move(root, AUTOENCODER, int(used), with_alias(root, AUTOENCODER, CHAMPION))


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


def _move(root: Path, name: str, number: int, champion: Version | None) -> None:
    """`previous` first: if this stops half way, the old champion is still champion."""
    if champion and champion.number == number:
        return
    client = connect(root)
    if champion:
        client.set_registered_model_alias(name, PREVIOUS, str(champion.number))
    client.set_registered_model_alias(name, CHAMPION, str(number))


def _record(root: Path, event: str, version: Version, champion: Version | None, reason: str) -> None:
    entry = {
        "event": event,
        "model": version.name,
        "version": version.number,
        "model_sha256": version.digest,
        "evaluation_sha256": version.tags.get(EVALUATION_TAG, ""),
        "code": version.tags.get("code", ""),
        "champion_before": champion.number if champion else None,
        "reason": reason,
    }
    earlier = shared_history(root)
    if earlier and all(earlier[-1].get(key) == value for key, value in entry.items()):
        return  # the same decision about the same evaluation, as when a release is repeated
    append_history(root, entry)
    log.info("%s: %s (%s)", version, event, reason)
