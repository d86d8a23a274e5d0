"""Rollout: a registered version beside the base model, asked first, and only then given traffic.

The order in which a version replaces what answers now, so that no request fails and no traffic
reaches a model that has not answered:

1. The adapter is merged into the base file, in the models cache.
2. The merged model is started as a *candidate*, a deployment of its own without traffic.
3. The candidate is asked a few questions over ``/score``, as clients ask.
4. The candidate goes. The same file now becomes the deployment ``endpoint.tuned``: the endpoint
   lets the old engine answer until the new one is ready.
5. The traffic table gives all to ``endpoint.tuned``.

A failure in 1 to 3 has touched nothing that answers; one in 4 leaves the old engine, one in 5 the
old table. Freeing the candidate before 4 costs a second load of a file that is in the page cache,
and keeps the peak at one engine more than before (0.5 GB for the recipe's model).

The table is written when another version than the last time is rolled out, or its deployment is
new; ``rollout.json`` notes the version. A later ``deploy`` of the same leaves alone what
``traffic`` has set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.console import progress_bar
from setup.common.errors import FixableError
from setup.common.paths import models_folder, read_json, without_home, write_private
from setup.data import data_plan
from setup.local.control import LocalEndpoint
from setup.local.tuned_model import as_served, find_version, prepare_version
from setup.recipe.local import Recipe
from setup.serve.settings import DeploymentSettings, EndpointSettings
from setup.weights.fetch import verify_model

if TYPE_CHECKING:
    from setup.local.registry import Version

_NOTE = "rollout.json"
_QUESTIONS = "What is the capital of France?", "Is the sky blue? Answer yes or no.", "Say hello."
_ANSWER_TOKENS = 128  # fits the smallest context window a recipe may set
_REPEATED = 4  # of the same letter are noise; a classifier may well answer with one
_LONGEST_NAME = 27  # leaves room for the candidate's ending in the 32 letters of a deployment


def plan_rollout(recipe: Recipe) -> list[str]:
    """Return the things that ``roll_out`` would do, a line each."""
    section = recipe.endpoint
    if section.version == "none":
        return [f"traffic to {section.deployment}, if it went to a registered version"]
    version = find_version(recipe)
    if version is None:
        return [f"no champion of {recipe.registry.model} to deploy beside it"]
    what = f"version {version.number} of {recipe.registry.model}"
    return [f"deployment {section.tuned}: {what}, asked first; if it is new, it gets the traffic"]


def roll_out(endpoint: LocalEndpoint, base: Path, settings: DeploymentSettings) -> bool:
    """Serve the recipe's registered version beside ``base``; False when it was so already.

    Args:
        endpoint: Its recipe's ``endpoint.version`` says which one. ``none`` gives the traffic back
            to ``endpoint.deployment`` and lets ``endpoint.tuned`` stand; ``champion`` where there
            is none changes nothing.
        base: The model file that deployment ``endpoint.deployment`` serves.
        settings: What that deployment was told; the version gets the same but for its file.

    Raises:
        FixableError: No such version, an adapter of another base, a model that does not start or
            does not answer; whatever answered before still does.
    """
    recipe = endpoint.recipe
    if recipe.endpoint.version == "none":
        return _give_back(endpoint)
    version = find_version(recipe)
    if version is None:
        return False
    _refuse_same_names(recipe)
    path = as_served(recipe, prepare_version(recipe, version, base))
    tuned = settings.model_copy(update={"model_path": str(path), "model_stamp": stamp_of(path)})
    return _Rollout(endpoint, version, tuned).run()


def stamp_of(path: Path) -> str:
    """Return a stamp that tells apart two files that had the same name, one after the other."""
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}"


def verify_tuned(endpoint: LocalEndpoint) -> None:
    """Check the cached files that take traffic as soon as the endpoint starts.

    Raises:
        FixableError: One has changed since it was written. A lost one does not count: it is
            built again, and its deployment is down until then.
    """
    saved = EndpointSettings.load(endpoint.folder)
    for name, settings in saved.deployments.items() if saved else ():
        path = Path(settings.model_path)
        if saved and saved.traffic.get(name) and path.parent == models_folder() and path.is_file():
            verify_model(path)


def rolled_out(endpoint: LocalEndpoint) -> str:
    """The number of the version that was rolled out last; empty before the first."""
    return str(_read_note(endpoint).get("version", ""))


def candidate_name(recipe: Recipe) -> str:
    """The deployment under which a version is tried, there for as long as that takes."""
    return f"{recipe.endpoint.tuned[:_LONGEST_NAME]}-next"


class _Rollout:
    """One version on its way to the traffic."""

    def __init__(
        self, endpoint: LocalEndpoint, version: Version, settings: DeploymentSettings
    ) -> None:
        recipe = endpoint.recipe
        self._section = recipe.endpoint
        self._endpoint = endpoint
        self._settings = settings
        self._candidate = candidate_name(recipe)
        self._what = f"version {version.number} of {recipe.registry.model}"
        self._note = {"version": version.number, "takes": Path(settings.model_path).name}

    def run(self) -> bool:
        """Do what is left to do; False when nothing was."""
        tuned, rows = self._section.tuned, self._endpoint.manage("GET")["deployments"]
        served = self._is_served(rows.get(tuned, {}))
        noted = _read_note(self._endpoint)
        due = tuned not in rows or noted.get("takes") != self._note["takes"]
        with self._newcomers_get_no_traffic(rows):
            if self._candidate in rows:
                self._drop_candidate()  # an interrupted rollout has left it
            if not served:
                self._try_candidate()
            changed = self._put(tuned)
            if served and due:
                self._smoke(tuned)
        if due:
            self._endpoint.manage("PUT", "/traffic", {tuned: 100})
        if noted != self._note:
            write_private(self._endpoint.folder / _NOTE, self._note)
        return changed or due

    def _is_served(self, row: dict[str, Any]) -> bool:
        # The endpoint tells how many threads an engine has, not that 0 let it choose.
        expected = {**self._settings.model_dump(), "threads": self._settings.engine_threads}
        return all(row.get(name) == value for name, value in expected.items())

    @contextmanager
    def _newcomers_get_no_traffic(self, rows: dict[str, Any]) -> Iterator[None]:
        """While nobody takes traffic, the endpoint would give all of it to what comes next."""
        if any(row["traffic"] for row in rows.values()):
            yield
            return
        self._endpoint.manage("PUT", "/traffic", {self._section.deployment: 100})
        try:
            yield
        finally:
            self._endpoint.manage("PUT", "/traffic", {self._section.deployment: 0})

    def _try_candidate(self) -> None:
        verify_model(Path(self._settings.model_path))
        try:
            self._put(self._candidate)
            self._smoke(self._candidate)
        finally:
            with suppress(FixableError):  # it may not have come into being
                self._drop_candidate()

    def _drop_candidate(self) -> None:
        patience = self._section.request_timeout
        self._endpoint.manage("DELETE", f"/deployments/{self._candidate}", timeout=patience)

    def _put(self, name: str) -> bool:
        patience = self._section.start_timeout + self._section.request_timeout
        body = self._settings.model_dump()
        try:
            with progress_bar(f"Starting {self._what} as {name}"):
                reply = self._endpoint.manage("PUT", f"/deployments/{name}", body, patience)
        except FixableError as error:
            raise self._failed(name, f"does not start ({error.what})") from None
        return bool(reply["changed"])

    def _smoke(self, name: str) -> None:
        """Ask until an answer has an end; each must be one, and not a letter for ever."""
        parameters = {"temperature": 0, "max_new_tokens": _ANSWER_TOKENS}
        patience = self._section.request_timeout
        for question in _QUESTIONS:
            try:
                with progress_bar(f"Asking {self._what}: {question}"):
                    reply = self._endpoint.score(question, name, parameters, patience)
            except FixableError as error:
                raise self._failed(name, f"does not answer ({error.what})") from None
            answer = "".join(str(reply.get("output") or "").split())
            # What weights that are not numbers answer: always the same token.
            if not answer or (len(answer) >= _REPEATED and len(set(answer)) == 1):
                raise self._failed(name, f"answers {answer[:12]!r} to {question!r}")
            if reply.get("finish_reason") == "stop":
                return
        raise self._failed(name, f"ends no answer within {_ANSWER_TOKENS} tokens")

    def _failed(self, name: str, problem: str) -> FixableError:
        command = self._endpoint.recipe.command
        kept = "; what answered before still does" if name == self._candidate else ""
        return FixableError(
            f"{self._what} {problem}{kept}; engine log: {self._endpoint.folder}/engine-{name}.log",
            f"{command(f'logs --deployment {name}')}, then fine-tune again, or "
            f"{command('deploy', '--set endpoint.version=NUMBER')} (or none)",
        )


def _give_back(endpoint: LocalEndpoint) -> bool:
    noted = _read_note(endpoint)
    if not noted.get("takes"):
        return False
    endpoint.manage("PUT", "/traffic", {endpoint.recipe.endpoint.deployment: 100})
    write_private(endpoint.folder / _NOTE, {**noted, "takes": ""})
    return True


def _refuse_same_names(recipe: Recipe) -> None:
    section = recipe.endpoint
    if section.deployment in (section.tuned, candidate_name(recipe)):
        raise FixableError(
            f"endpoint.deployment is {section.deployment}, "
            f"which endpoint.tuned={section.tuned} needs",
            "give one of them another name, or --set endpoint.version=none",
        )


def _read_note(endpoint: LocalEndpoint) -> dict[str, Any]:
    return read_json(endpoint.folder / _NOTE) or {}


def trained_on(recipe: Recipe, number: str) -> str:
    """Name the data of the version that is served, and of which the recipe speaks where it differs.

    Versions of before do not say theirs; of an adapter from elsewhere only its origin is known.
    """
    from setup.local.registry import list_versions

    versions = list_versions(recipe.registry.model)
    version = next((v for v in versions if str(v.number) == number), None)
    if version and version.origin:
        return f" ({version.origin})"
    source = version.data_source if version else ""
    if not source or source == without_home(data_plan(recipe).name):
        return f", trained on {source}" if source else ""
    return f", trained on {source}, not on data.source {data_plan(recipe).name}"
