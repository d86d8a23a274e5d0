"""A fine-tuned version gets the traffic of the base: without a lost request, or not at all.

One endpoint goes through all of this in turn; every test says first what serves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from setup.common.errors import FixableError
from tests.home import failed
from tests.setup.local.rollout.adapters import SHAPE, weights, write_weights
from tests.setup.local.rollout.conftest import Lab

pytestmark = pytest.mark.slow


def test_version_takes_the_traffic_under_load(lab: Lab) -> None:
    assert lab.traffic() == {"base": 100}
    with lab.clients() as seen:
        assert lab.deploy("champion") is True
        switched = len(seen.texts)
    assert seen.statuses == {200}
    assert set(seen.deployments[:8]) == {"base"}
    assert set(seen.deployments[switched + 8 :]) == {"tuned"}
    assert lab.traffic() == {"tuned": 100}
    assert set(lab.rows()) == {"base", "tuned"}
    assert lab.answer("tuned") != lab.answer("base")


def test_second_deploy_changes_nothing(lab: Lab) -> None:
    lab.deploy("champion")
    before, files = lab.rows(), {path: path.stat().st_mtime_ns for path in lab.merged()}
    done = lab.home.setup("deploy", "--json")
    result = json.loads(done.stdout)
    assert result["changed"] is False
    assert "tuned is version 1 and takes 100 %" in result["detail"]
    assert lab.rows() == before
    assert {path: path.stat().st_mtime_ns for path in lab.merged()} == files


def test_shares_set_by_hand_stay_until_it_is_new(lab: Lab) -> None:
    lab.deploy(1)
    lab.shift(base=70, tuned=30)
    assert lab.deploy(1) is False
    assert lab.deploy("champion", "endpoint.queue=17") is True, "another setting, not version"
    assert lab.row("tuned")["queue"] == 17
    assert lab.traffic() == {"base": 70, "tuned": 30}
    lab.shift(base=100)
    assert lab.home.manage("DELETE", "/deployments/tuned").status_code == 204
    assert lab.deploy(1) is True
    assert lab.traffic() == {"tuned": 100}


def _not_a_number(adapter: Path) -> None:
    content = weights(2, 0.02)
    next(iter(content.values()))[0, 0] = np.nan
    write_weights(adapter, content)


def _wrong_shape(adapter: Path) -> None:
    write_weights(adapter, weights(2, 0.02, rows=SHAPE[0] - 1))


def _truncated(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _missing(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize(
    ("serving", "spoil", "says"),
    [
        ("1", _not_a_number, "not finite"),
        ("1", _truncated, "damaged or cut off"),
        ("none", _not_a_number, "not finite"),
        ("none", _truncated, "damaged or cut off"),
        ("none", _missing, "has lost its files"),
        ("none", _wrong_shape, "does not fit"),
    ],
)
def test_broken_adapter_never_gets_traffic(
    lab: Lab, serving: str, spoil: Callable[[Path], None], says: str
) -> None:
    lab.deploy(serving)
    before, files = lab.rows(), lab.merged()
    assert lab.traffic() == ({"base": 100} if serving == "none" else {"tuned": 100})
    path = lab.version(2).adapter / "adapter_model.safetensors"
    good = path.read_bytes()
    try:
        spoil(path.parent)
        with pytest.raises(FixableError, match=says):
            lab.deploy(2)
    finally:
        path.write_bytes(good)
    assert lab.rows() == before
    assert lab.merged() == files


def test_none_goes_back_to_base_and_the_version_comes_back(lab: Lab) -> None:
    lab.deploy(1)
    files = lab.merged()
    assert lab.deploy("none") is True
    assert lab.traffic() == {"base": 100}
    assert lab.row("tuned")["healthy"]
    assert lab.deploy("none") is False
    lab.shift(base=50, tuned=50)
    assert lab.deploy("none") is False
    assert lab.traffic() == {"base": 50, "tuned": 50}
    assert lab.deploy(1) is True
    assert lab.traffic() == {"tuned": 100}
    assert lab.merged() == files


def test_candidate_that_an_interrupted_rollout_left_is_removed(lab: Lab) -> None:
    lab.deploy(1)
    saved = json.loads((lab.home.folder / "endpoint.json").read_text(encoding="utf-8"))
    left = lab.home.manage("PUT", "/deployments/tuned-next", saved["deployments"]["tuned"])
    assert left.status_code == 201
    lab.shift(**{"tuned-next": 100})
    with pytest.raises(FixableError, match="'tuned-next' takes traffic: shift it away first"):
        lab.deploy(1)
    lab.shift(tuned=100)
    lab.deploy(1)
    assert set(lab.rows()) == {"base", "tuned"}


def test_adapter_of_another_base_is_refused(lab: Lab) -> None:
    lab.deploy(1)
    line = failed(lab.home.setup("deploy", "--set", "endpoint.version=3"))
    assert "was trained on another base (sha256 000000000000)" in line
    assert lab.traffic() == {"tuned": 100}
    with pytest.raises(FixableError, match="has no version 9"):
        lab.deploy(9)


def test_names_that_collide_are_refused(lab: Lab) -> None:
    with pytest.raises(FixableError, match=r"endpoint\.tuned=base"):
        lab.deploy(1, "endpoint.tuned=base")
    assert lab.rows()["base"]["healthy"]


def test_version_is_replaced_under_load(lab: Lab) -> None:
    lab.deploy(1)
    first = lab.answer("tuned")
    with lab.clients() as seen:
        assert lab.deploy(2) is True
    assert seen.statuses == {200}
    assert set(seen.deployments) == {"tuned"}
    assert lab.traffic() == {"tuned": 100}
    assert lab.answer("tuned") not in (first, lab.answer("base"))
    assert set(lab.rows()) == {"base", "tuned"}


def test_model_that_is_no_number_leaves_the_old_one(lab: Lab) -> None:
    lab.deploy(2)
    before, answer = lab.models(), lab.answer("tuned")
    refused = pytest.raises(FixableError, match=r"answers '(.)\1+' to 'What")
    with lab.spoilt(1, np.nan), lab.clients() as seen, refused as caught:
        lab.deploy(1)
    assert "python -m setup logs --deployment tuned-next" in caught.value.fix
    assert seen.statuses == {200}
    assert lab.models() == before
    assert lab.answer("tuned") == answer
    assert lab.traffic() == {"tuned": 100}


def test_model_that_never_ends_gets_no_traffic_where_nobody_has_any(lab: Lab) -> None:
    """The endpoint gives the first deployment all of it: not to one that is being tried."""
    lab.deploy(2)
    lab.shift(base=0)
    with lab.spoilt(1, 1.0), ThreadPoolExecutor(1) as pool:
        deployed = pool.submit(lab.deploy, 1)
        tables = [lab.rows()]
        while not deployed.done():
            tables.append(lab.rows())
            time.sleep(0.02)
        with pytest.raises(FixableError, match="ends no answer within"):
            deployed.result()
    assert {name for rows in tables for name in rows} == {"base", "tuned", "tuned-next"}
    taking = [name for rows in tables for name, row in rows.items() if row["traffic"]]
    assert set(taking) == {"base"}
    assert lab.traffic() == {}


def test_changed_merged_file_is_found(lab: Lab) -> None:
    lab.deploy(2)
    lab.shift(tuned=100)
    record = Path(lab.row("tuned")["model_path"]).with_suffix(".json")
    good = record.read_text(encoding="utf-8")
    assert lab.home.setup("stop").returncode == 0
    try:
        record.write_text(json.dumps({"sha256": "0" * 64}), encoding="utf-8")
        with pytest.raises(FixableError, match="has changed since it was written"):
            lab.deploy(2)
        assert lab.home.setup("status").returncode == 1, "it was not started"
    finally:
        record.write_text(good, encoding="utf-8")
    assert lab.deploy(2) is True
    assert lab.traffic() == {"tuned": 100}
    assert lab.row("tuned")["healthy"]


_CONNECT = """
import json, sys
from promptflow.client import PFClient
from setup.local.connect import run
from setup.local.control import LocalEndpoint
from setup.recipe.load import load_recipe
endpoint = LocalEndpoint(load_recipe("laptop", sys.argv[1:]))
changed = [run(endpoint).changed, run(endpoint).changed]
store = PFClient().connections
found = [store.get(connection.name, with_secrets=True) for connection in store.list()]
rows = {row.name: {"configs": dict(row.configs), "secrets": dict(row.secrets)} for row in found}
print(json.dumps({"changed": changed, "rows": rows}))
"""


def test_each_deployment_has_a_connection_of_its_own(lab: Lab) -> None:
    lab.deploy(2)
    done = lab.home.run("-c", _CONNECT, *lab.home.sets, f"endpoint.port={lab.home.port}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["changed"] == [True, False]
    rows = result["rows"]
    assert set(rows) == {"phi", "phi-base", "phi-tuned"}
    assert all(row["secrets"] == {"key": lab.home.key()} for row in rows.values())
    assert all(row["configs"].pop("endpoint") == f"{lab.home.url}/score" for row in rows.values())
    named = [rows[name]["configs"].pop("deployment", "") for name in sorted(rows)]
    assert named == ["", "base", "tuned"]
    assert rows["phi"]["configs"] == rows["phi-base"]["configs"] == rows["phi-tuned"]["configs"]
