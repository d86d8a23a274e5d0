"""The connection of a run, as its engine keeps it: read for the flow's client, never written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evaluation.engines.flow_run import Engine
from flows.chat import scoring_client as client
from flows.chat.scoring_client.settings import place
from setup.common.errors import FixableError
from setup.local.control import LocalEndpoint
from setup.local.rollout import rolled_out
from setup.local.tuned_model import mixture_of
from setup.recipe.local import Recipe

_ATTEMPTS = 3


@dataclass(frozen=True)
class KnownConnection:
    """A custom connection: ``configs`` may be shown, the key is only in ``settings``."""

    name: str
    configs: dict[str, str]
    settings: client.Settings

    @classmethod
    def read(cls, name: str, engine: Engine) -> KnownConnection:
        """The connection ``name`` of the engine's store."""
        fix = "python -m setup connect, or name one of pf connection list"
        connection = engine.connection(name, fix)
        secrets = dict(getattr(connection, "secrets", {}) or {})
        configs = dict(getattr(connection, "configs", {}) or {})
        try:
            settings = replace(client.Settings.from_values({**configs, **secrets}), name=name)
        except client.EndpointError as error:
            raise FixableError(f"connection {name}: {error.what}", error.fix) from None
        return cls(name, _shown(settings), settings)

    def check(self) -> None:
        """Ask one short question, so that a dead endpoint is found before row 1."""
        question: list[Any] = [{"role": "user", "content": "Say yes."}]
        endpoint = client.Endpoint(self.settings)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                endpoint.complete(question, client.Generation(max_new_tokens=8))
            except client.EndpointError as error:
                # What a wait can mend the client has tried again already.
                passing = isinstance(error, client.EngineError | client.ReplyError)
                if attempt == _ATTEMPTS or not passing:
                    raise FixableError(
                        f"connection {self.name} gives no answer: {error.what} ({error.where})",
                        f"{error.fix}; python -m setup status",
                    ) from None
            else:
                return

    def served_model(self, recipe: Recipe) -> dict[str, Any]:
        """Which model answers behind it, as far as this machine knows.

        ``version`` is the registered version where it asks the tuned deployment of the recipe's own
        endpoint; of every other endpoint only what the connection says is known.
        """
        named = self.configs.get("deployment") or self.configs.get("model") or ""
        endpoint = LocalEndpoint(recipe)
        own = endpoint.process() and self.configs["endpoint"].startswith(f"{endpoint.url}/")
        if not own:
            return {"deployment": named}
        deployments = endpoint.manage("GET")["deployments"]
        named = named or max(deployments, key=lambda name: deployments[name]["traffic"])
        file = Path(deployments[named]["model_path"]).name if named in deployments else ""
        version = rolled_out(endpoint) if named == recipe.endpoint.tuned else ""
        model = {"deployment": named, "file": file, "source": recipe.model.source}
        if mixture := mixture_of(Path(file)):
            model["quantized"] = mixture
        registered = {"registered": recipe.registry.model, "version": version}
        return model | (registered if version else {})


def _shown(settings: client.Settings) -> dict[str, str]:
    """Return what may be kept of a connection: never the key, nor a URL's query, which can be one.

    Foundry's custom keys put everything among the secrets, so where a value stood says nothing.
    """
    values = {field.name: str(getattr(settings, field.name)) for field in fields(settings)}
    for name in ("endpoint", "tokenizer"):
        url = values[name]
        values[name] = f"{urlsplit(url).scheme}://{place(url)}" if url else ""
    values["endpoint_sha256"] = hashlib.sha256(settings.endpoint.encode()).hexdigest()
    return {name: value for name, value in values.items() if value and name != "key"}
