"""The champion: the version that `deploy` serves unless a number is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.local.registry.store import change_registry, database_path
from setup.local.registry.versions import (
    CHAMPION,
    NOTE,
    Version,
    find_version,
    list_versions,
    read_versions,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_COMPARABLE = "not comparable"  # how the note begins of a version that nothing was decided about


def promote(model_name: str, number: int) -> Version:
    """Make version ``number`` the champion, whatever its losses.

    Raises:
        FixableError: There is no such version, or the registry cannot be written.
    """
    if not database_path().is_file():
        return find_version([], model_name, str(number))
    with change_registry() as client:
        version = find_version(read_versions(client, model_name), model_name, str(number))
        if not version.champion:
            crown(client, version, "promoted by hand")
    return find_version(list_versions(model_name), model_name, str(number))


def crown(client: MlflowClient, version: Version, note: str) -> None:
    """Move the alias to ``version``; the note comes last, its presence means it is decided."""
    client.set_registered_model_alias(version.model, CHAMPION, str(version.number))
    write_note(client, version, note)


def write_note(client: MlflowClient, version: Version, note: str) -> None:
    """Record why ``version`` is the champion, or is not."""
    client.set_model_version_tag(version.model, str(version.number), NOTE, note)


def judge(candidate: Version, champion: Version | None) -> tuple[bool, str]:
    """Decide whether ``candidate`` becomes champion, and say why, by the loss on held-out rows.

    Losses measured on other rows, or from another base model, say nothing about each other. Who
    trains on another data set wants that model, so it takes over; else the champion stays. Either
    way the note names the command that decides otherwise.
    """
    after, before = candidate.held_out_after, candidate.held_out_before
    if after >= before:
        reason = f"no better than its base: held-out loss {before:.3f} before, {after:.3f} after"
        return False, f"{reason}; {_by_hand(candidate)}"
    if champion is None or champion.number == candidate.number:
        return True, f"better than its base: held-out loss {before:.3f} before, {after:.3f} after"
    return _against(candidate, champion)


def _against(candidate: Version, champion: Version) -> tuple[bool, str]:
    by_hand, rival = _by_hand(candidate), f"version {champion.number}, the champion then"
    if champion.base_sha256 != candidate.base_sha256:
        return False, f"{NOT_COMPARABLE} with {rival}: another base model; {by_hand}"
    sources = {champion.data_source, candidate.data_source}
    if len(sources) == 2 and "" not in sources:
        back = f"`python -m setup promote {champion.number}` takes that one back"
        return True, f"{rival}, was trained on other data ({champion.data_source}): {back}"
    if champion.held_out_sha256 != candidate.held_out_sha256:
        return False, f"{NOT_COMPARABLE} with {rival}: measured on other held-out rows; {by_hand}"
    after = candidate.held_out_after
    losses = f"held-out loss {after:.3f} against {champion.held_out_after:.3f} of {rival}"
    if after < champion.held_out_after:
        return True, losses
    return False, f"no better: {losses}; {by_hand}"


def _by_hand(version: Version) -> str:
    return f"`python -m setup promote {version.number}` makes it the champion"
