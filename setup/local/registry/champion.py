"""The champion: the version that `deploy` serves unless a number is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.local.registry import store, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_COMPARABLE = "not comparable"  # how the note begins of a version that nothing was decided about


def promote(model_name: str, number: int) -> versions.Version:
    """Make version ``number`` the champion, whatever its losses.

    FixableError where there is no such version, or the registry cannot be written.
    """
    which = str(number)
    if not store.database_path().is_file():
        return versions.find_version([], model_name, which)
    with store.change_registry() as client:
        registered = versions.read_versions(client, model_name)
        version = versions.find_version(registered, model_name, which)
        if not version.champion:
            _write(client, version, "promoted by hand", crown=True)
    return versions.find_version(versions.list_versions(model_name), model_name, which)


def decide(client: MlflowClient, version: versions.Version) -> None:
    """Make ``version`` the champion if it is better than the present one, and record why or not."""
    registered = versions.read_versions(client, version.model)
    champion = next((other for other in registered if other.champion), None)
    better, why = judge(version, champion)
    _write(client, version, why, crown=better)


def _write(client: MlflowClient, version: versions.Version, note: str, *, crown: bool) -> None:
    """Move the alias, then write the note: its presence means that it is decided."""
    if crown:
        client.set_registered_model_alias(version.model, versions.CHAMPION, str(version.number))
    client.set_model_version_tag(version.model, str(version.number), versions.NOTE, note)


def judge(candidate: versions.Version, champion: versions.Version | None) -> tuple[bool, str]:
    """Decide whether ``candidate`` becomes champion, and say why, by the loss on held-out rows.

    Losses measured on other rows, or from another base model, say nothing about each other. Who
    trains on another data set wants that model, so it takes over; else the champion stays. Either
    way the note names the command that decides otherwise.
    """
    after, before = candidate.held_out_after, candidate.held_out_before
    by_hand = f"`python -m setup promote {candidate.number}` makes it the champion"
    losses = f"held-out loss {before:.3f} before, {after:.3f} after"
    if after >= before:
        return False, f"no better than its base: {losses}; {by_hand}"
    if champion is None or champion.number == candidate.number:
        return True, f"better than its base: {losses}"
    rival = f"version {champion.number}, the champion then"
    if champion.base_sha256 != candidate.base_sha256:
        return False, f"{NOT_COMPARABLE} with {rival}: another base model; {by_hand}"
    sources = {champion.data_source, candidate.data_source}
    if len(sources) == 2 and "" not in sources:
        back = f"`python -m setup promote {champion.number}` takes that one back"
        return True, f"{rival}, was trained on other data ({champion.data_source}): {back}"
    if champion.held_out_sha256 != candidate.held_out_sha256:
        return False, f"{NOT_COMPARABLE} with {rival}: measured on other held-out rows; {by_hand}"
    losses = f"held-out loss {after:.3f} against {champion.held_out_after:.3f} of {rival}"
    better = after < champion.held_out_after
    return better, losses if better else f"no better: {losses}; {by_hand}"
