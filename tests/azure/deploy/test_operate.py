"""The deployed endpoint seen and steered: status, logs, traffic, delete, autoscale."""

from __future__ import annotations

import io
import json
from itertools import islice
from typing import Any

import pytest
from pydantic import ValidationError

from setup.azure import teardown
from setup.azure.client.money import answered
from setup.azure.client.session import AzureSession
from setup.azure.deploy import operate
from setup.azure.deploy import step as deploy
from setup.azure.deploy.operate import DeployedEndpoint
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe, Scale
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.serving import (
    add,
    deployments_of,
    endpoint_of,
    endpoint_with,
    register,
    traffic_of,
    writes,
)


@pytest.fixture
def canary(azure: FakeAzure, recipe: AzureRecipe) -> AzureRecipe:
    """Version 1 with 90 % of the traffic, version 2 with 10 %."""
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    careful = endpoint_with(recipe, canary=10)
    deploy.run(AzureSession(careful))
    azure.clear()
    return careful


def operated(recipe: AzureRecipe) -> DeployedEndpoint:
    return DeployedEndpoint(AzureSession(recipe))


def refusal(work: Any, *given: Any) -> FixableError:
    with pytest.raises(FixableError) as caught:
        work(*given)
    assert "\n" not in str(caught.value)
    return caught.value


def test_commands_have_the_names_and_the_shape_of_the_local_ones(
    azure: FakeAzure, canary: AzureRecipe
) -> None:
    told = run_setup("status", "--recipe", "phi-azure", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    facts = json.loads(told.stdout)
    assert (facts["running"], facts["healthy"]) == (True, True)
    assert facts["url"].endswith("/score")
    rows = facts["deployments"]
    assert {name: row["traffic"] for name, row in rows.items()} == {
        "tuned-blue": 90,
        "tuned-green": 10,
    }
    assert rows["tuned-green"]["model_path"] == "phi-azure:2"
    assert {"healthy", "admitted", "waiting", "slots", "failure"} <= set(rows["tuned-blue"])
    shown = run_setup("status", "--recipe", "phi-azure").stdout
    assert all(part in shown for part in ("tuned-green", "10 %", "healthy"))
    assert azure.writes == []
    raised = run_setup("traffic", "--recipe", "phi-azure", "tuned-blue=50", "tuned-green=50")
    assert raised.stdout == "traffic: tuned-blue 50 %, tuned-green 50 %\n"
    assert traffic_of(azure) == {"tuned-blue": 50, "tuned-green": 50}
    logged = run_setup("logs", "--recipe", "phi-azure", "--deployment", "tuned-green")
    assert logged.stdout == "the container is ready\n"
    key = endpoint_of(azure).hidden["primaryKey"]
    assert key not in told.stdout + shown + raised.stdout + logged.stdout


def test_nothing_there_is_said_with_the_command_that_makes_it(
    azure: FakeAzure, recipe: AzureRecipe
) -> None:
    assert operated(recipe).status()["running"] is False
    shown = run_setup("status", "--recipe", "phi-azure")
    assert shown.returncode == 1
    assert "is not running; next: python -m setup deploy --recipe phi-azure" in shown.stdout
    error = refusal(operated(recipe).set_traffic, {"tuned-blue": 100})
    assert error.fix == "python -m setup deploy --recipe phi-azure"
    assert azure.writes == []


@pytest.mark.parametrize(
    ("shares", "what"),
    [
        ({"tuned-blue": 90, "tuned-green": 20}, "the shares are 110 % in all"),
        ({"tuned-blue": 90, "tuned-red": 10}, "has no deployment tuned-red"),
    ],
)
def test_traffic_that_cannot_be_is_refused(
    azure: FakeAzure, canary: AzureRecipe, shares: dict[str, int], what: str
) -> None:
    assert what in refusal(operated(canary).set_traffic, shares).what
    assert azure.writes == []


def test_who_gets_its_first_requests_answers_before(azure: FakeAzure, canary: AzureRecipe) -> None:
    operated(canary).set_traffic({"tuned-blue": 100})
    azure.answer = lambda name, _: "!!!!!!" if name == "tuned-green" else "Paris."
    error = refusal(operated(canary).set_traffic, {"tuned-green": 100})
    assert "answers '!!!!!!'" in error.what
    assert "logs --recipe phi-azure --deployment tuned-green" in error.fix
    assert traffic_of(azure) == {"tuned-blue": 100}
    deployments_of(azure)["tuned-green"].properties["provisioningState"] = "Failed"
    assert "is not healthy" in refusal(operated(canary).set_traffic, {"tuned-green": 100}).what
    row = operated(canary).status()["deployments"]["tuned-green"]
    assert (row["healthy"], row["state"]) == (False, "Failed")


def test_no_traffic_at_all(azure: FakeAzure, canary: AzureRecipe) -> None:
    operated(canary).set_traffic({"tuned-blue": 0, "tuned-green": 0})
    assert traffic_of(azure) == {}
    assert operated(canary).status()["healthy"] is False
    operated(canary).set_traffic({"tuned-green": 100})
    assert traffic_of(azure) == {"tuned-green": 100}


def test_copies_go_to_one_that_takes_no_requests(azure: FakeAzure, canary: AzureRecipe) -> None:
    endpoint = operated(canary)
    error = refusal(endpoint.set_mirror, {"tuned-green": 20})
    assert "tuned-green takes 10 % of the requests, and so no copies" in error.what
    endpoint.set_traffic({"tuned-blue": 100})
    assert "at most 50 %" in refusal(endpoint.set_mirror, {"tuned-green": 60}).what
    told = run_setup("traffic", "--recipe", "phi-azure", "--mirror", "tuned-green=20")
    assert told.stdout == "mirror: tuned-green 20 %\n"
    assert endpoint_of(azure).properties["mirrorTraffic"] == {"tuned-green": 20}
    assert endpoint.status()["deployments"]["tuned-green"]["mirror"] == 20
    error = refusal(endpoint.delete, "tuned-green")
    assert "takes copies of 20 %" in error.what
    command = error.fix.removeprefix("python -m setup ").split()
    assert run_setup(*command).returncode == 0
    endpoint.delete("tuned-green")
    assert set(deployments_of(azure)) == {"tuned-blue"}
    assert "takes 100 % of the requests" in refusal(endpoint.delete, "tuned-blue").what


def test_local_has_no_mirror(azure: FakeAzure) -> None:
    told = run_setup("traffic", "--mirror", "tuned=20")
    assert told.returncode == 1
    assert "target local sends no copies of requests" in told.stderr


def test_a_log_is_followed_without_a_line_twice(
    azure: FakeAzure, canary: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = "".join(f"line {n}\n" for n in range(5))
    blue = deployments_of(azure)["tuned-blue"]
    blue.hidden["log"] = log + "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0c2VjcmV0\n"
    grown = iter(["line 5\n", "", "line 6\nline 6\n"])

    def wait(_: float) -> None:
        blue.hidden["log"] += next(grown)

    monkeypatch.setattr(operate, "sleep", wait)
    lines = list(islice(operated(canary).log_lines(3, follow=True), 6))
    assert lines[:2] == ["line 3\n", "line 4\n"]
    assert "eyJ" not in lines[2]
    assert lines[3:] == ["line 5\n", "line 6\n", "line 6\n"]
    assert (
        "has no deployment blue" in refusal(next, operated(canary).log_lines(1, False, "blue")).what
    )


def test_an_empty_log_is_said(
    azure: FakeAzure, canary: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployments_of(azure)["tuned-blue"].hidden["log"] = ""
    told = io.StringIO()
    monkeypatch.setattr(console.err, "file", told)
    assert list(operated(canary).log_lines(5, follow=False)) == []
    assert "deployment tuned-blue has printed nothing yet" in told.getvalue()


SCALE = Scale(min=1, max=3, metric="gpu")


def settings_of(azure: FakeAzure) -> dict[str, Any]:
    kind = "microsoft.insights/autoscalesettings"
    return {one.id.name: one for one in azure.store if one.kind == kind}


def test_instances_follow_the_load(azure: FakeAzure, recipe: AzureRecipe) -> None:
    azure.subscription.limits["standardNCADSA100v4Family"] = 1000
    scaled = endpoint_with(recipe, scale=SCALE)
    plan = "\n".join(deploy.plan(AzureSession(scaled)))
    assert "autoscale: 1 to 3 instances: one more above 70 % of GPU over 5 minutes" in plan
    assert "3 x Standard_NC24ads_A100_v4" in plan
    assert "with 1 to 3 instances" in deploy.run(AzureSession(scaled)).detail
    [(name, setting)] = settings_of(azure).items()
    assert name == f"{endpoint_of(azure).id.name}-tuned-blue"
    assert setting.properties["targetResourceUri"].endswith("/deployments/tuned-blue")
    up, down = setting.properties["profiles"][0]["rules"]
    assert up["metricTrigger"]["metricName"] == "GpuUtilizationPercentage"
    assert (up["metricTrigger"]["threshold"], down["metricTrigger"]["threshold"]) == (70, 30)
    assert up["scaleAction"] == {
        "direction": "Increase",
        "type": "ChangeCount",
        "value": "1",
        "cooldown": "PT5M",
    }
    azure.clear()
    deployments_of(azure)["tuned-blue"].body["sku"]["capacity"] = 2  # Azure has scaled it
    assert not deploy.run(AzureSession(scaled)).changed
    assert writes(azure) == []
    row = operated(scaled).status()["deployments"]["tuned-blue"]
    assert (row["instances"], row["scale"]) == (2, {"min": 1, "max": 3})
    longer = endpoint_with(scaled, max_concurrent_requests=4)
    deploy.run(AzureSession(longer))
    assert deployments_of(azure)["tuned-blue"].body["sku"]["capacity"] == 2


def test_autoscale_is_what_its_contract_allows(azure: FakeAzure, recipe: AzureRecipe) -> None:
    """By Microsoft.Insights/autoscalesettings@2022-10-01: what it requires, and of which values."""
    azure.subscription.limits["standardNCADSA100v4Family"] = 1000
    deploy.run(AzureSession(endpoint_with(recipe, scale=SCALE)))
    [setting] = settings_of(azure).values()
    assert set(setting.body) >= {"location", "properties"}
    [profile] = setting.properties["profiles"]
    assert set(profile) == {"name", "capacity", "rules"}
    assert set(profile["capacity"]) == {"minimum", "maximum", "default"}
    assert {type(number) for number in profile["capacity"].values()} == {str}
    for rule in profile["rules"]:
        trigger, action = rule["metricTrigger"], rule["scaleAction"]
        needed = {"metricName", "metricResourceUri", "timeGrain", "statistic", "timeWindow"}
        assert set(trigger) == needed | {
            "timeAggregation",
            "operator",
            "threshold",
            "metricNamespace",
        }
        assert trigger["statistic"] in {"Average", "Min", "Max", "Sum", "Count"}
        assert trigger["timeAggregation"] in {"Average", "Minimum", "Maximum", "Total", "Count"}
        assert set(action) == {"direction", "type", "value", "cooldown"}
    with pytest.raises(ValidationError, match="greater than or equal to 5"):
        Scale(max=2, metric="cpu", minutes=4)


def test_more_instances_are_agreed_to(azure: FakeAzure, recipe: AzureRecipe) -> None:
    azure.subscription.limits["standardNCADSA100v4Family"] = 1000
    deploy.run(AzureSession(recipe))
    scaled = endpoint_with(recipe, scale=SCALE)
    assert "3 x Standard_NC24ads_A100_v4" in "\n".join(deploy.plan(AzureSession(scaled)))
    with answered(False), pytest.raises(FixableError, match="3 x Standard_NC24ads_A100_v4"):
        deploy.run(AzureSession(scaled))
    assert settings_of(azure) == {}
    deploy.run(AzureSession(scaled))
    assert settings_of(azure)


def test_autoscale_goes_with_what_it_scales(azure: FakeAzure, recipe: AzureRecipe) -> None:
    azure.subscription.limits["standardNCADSA100v4Family"] = 1000
    scaled = endpoint_with(recipe, scale=SCALE)
    deploy.run(AzureSession(scaled))
    assert "no autoscale any more" in "\n".join(deploy.plan(AzureSession(recipe)))
    assert deploy.run(AzureSession(recipe)).changed
    assert settings_of(azure) == {}
    assert not deploy.run(AzureSession(recipe)).changed
    register(azure, recipe, "2")
    deploy.run(AzureSession(scaled))
    assert [name[-11:] for name in settings_of(azure)] == ["tuned-green"]
    space = endpoint_of(azure).id.parent
    add(azure, space, **azure.store.need(space).body | {"tags": AzureSession(recipe).tags})
    plan = teardown.plan_teardown(AzureSession(scaled), "endpoint")
    assert any(line.startswith("autoscale ") for line in plan)
    teardown.teardown(AzureSession(scaled), "endpoint")
    assert settings_of(azure) == {}


def test_scale_that_cannot_be_is_refused() -> None:
    told = run_setup(
        "deploy",
        "--recipe",
        "phi-azure",
        "--dry-run",
        "--set",
        "endpoint.scale={min: 2, max: 3, metric: gpu}",
    )
    assert told.returncode == 1
    assert "instances 1 is outside scale.min 2 to scale.max 3" in told.stderr
