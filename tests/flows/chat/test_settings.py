"""A connection that cannot work is refused by the name of the key that is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flows.chat.scoring_client import ConfigurationError, Endpoint, Settings

URL = "https://phi.westus3.inference.ml.azure.com/score"
GOOD = {"endpoint": URL, "key": "s3cret"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"endpoint": ""}, "'endpoint' is missing"),
        ({"endpoint": "<your-endpoint>"}, "'endpoint' still holds its placeholder"),
        ({"endpoint": "https://<name>.ml.azure.com/score"}, "'endpoint' still holds"),
        ({"endpoint": "${env:PHI}"}, "'endpoint' holds a ${…} reference"),
        ({"endpoint": "phi.example/score"}, "'endpoint' is not an http or https URL"),
        ({"endpoint": "ftp://phi.example"}, "'endpoint' is not an http or https URL"),
        ({"endpoint": "http://phi.example:port/"}, "'endpoint' is not a URL"),
        ({"endpoint": "https://u:s3cret@phi.example/"}, "'endpoint' holds a user"),
        ({"endpoint": "https://phi.example/a b"}, "'endpoint' holds a user, a space"),
        ({"key": ""}, "'key' is missing"),
        ({"key": "<your-key>"}, "'key' still holds its placeholder"),
        ({"key": "******"}, "'key' still holds its placeholder"),
        ({"key": "${env:KEY}"}, "'key' holds a ${…} reference"),
        ({"key": "s3cret\r\nX-Evil: 1"}, "'key' holds a character"),
        ({"key": "s3crét"}, "'key' holds a character"),
        ({"deployment": "blue\r\nX-Evil: 1"}, "'deployment' is not a deployment name"),
        ({"contract": "grpc"}, "'contract' has a value nothing knows"),
        ({"system_role": "both"}, "'system_role' has a value nothing knows"),
        ({"context_window": "4k"}, "'context_window' is not a whole number"),
        ({"context_window": "0"}, "'context_window' is not a whole number"),
        ({"timeout": "never"}, "'timeout' is not a number of seconds"),
        ({"connect_timeout": "-1"}, "'connect_timeout' is not a number of seconds"),
        ({"tokenizer": "tokenize"}, "'tokenizer' is not an http or https URL"),
        ({"deployement": "blue"}, "'deployement' that nothing reads"),
    ],
)
def test_refused(values: dict[str, str], names: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_values(GOOD | values)
    line = str(caught.value)
    assert names in line
    assert "Fix: " in line
    assert line.isprintable()
    assert "s3cr" not in line


@pytest.mark.parametrize(
    ("endpoint", "contract", "expected", "asked"),
    [
        (URL, "auto", "score", URL),
        ("http://h:1/v1", "auto", "openai", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "", "openai", "http://h:1/v1/chat/completions"),
        ("http://h/v1/chat/completions", "auto", "openai", "http://h/v1/chat/completions"),
        ("http://h", "openai", "openai", "http://h/v1/chat/completions"),
        ("http://h/score?v=1", "mlflow", "mlflow", "http://h/score?v=1"),
    ],
)
def test_contract_and_path(endpoint: str, contract: str, expected: str, asked: str) -> None:
    settings = Settings.from_values(GOOD | {"endpoint": endpoint, "contract": contract})
    assert (settings.contract, settings.endpoint) == (expected, asked)


def test_everything_in_secrets_as_foundry_has_it() -> None:
    everything = GOOD | {"Timeout": "7", "azureml.flow.module": "promptflow.connections"}
    settings = Settings.from_connection(SimpleNamespace(configs={}, secrets=everything))
    assert (settings.endpoint, settings.key, settings.timeout) == (URL, "s3cret", 7.0)


def test_repr_has_no_key() -> None:
    assert "s3cret" not in repr(Endpoint(Settings.from_values(GOOD)))


def test_the_same_values_are_read_once_and_others_anew() -> None:
    settings = Settings.from_values(GOOD)
    assert Settings.from_values(dict(GOOD)) is settings
    assert Settings.from_values(GOOD | {"key": "another"}).key == "another"
    assert (
        Settings.from_connection(SimpleNamespace(configs=GOOD, secrets={}, name="phi")) == settings
    )
    assert Settings.from_values(GOOD, "phi").name == "phi"
    assert settings.name == ""
