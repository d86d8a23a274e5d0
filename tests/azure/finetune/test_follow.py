"""Following a job: what it prints, why it failed, and everything that happens to connections."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.finetune import follow
from setup.azure.finetune import step as finetune
from setup.azure.finetune.attempts import job_name
from setup.azure.finetune.follow import Bounds, Follower, explain_failure, what_went_wrong
from setup.azure.finetune.job_history import ENDED, Run
from setup.common.errors import FixableError
from tests.azure.trainable import PUT_JOB, Trainable, listen, only

DETAILS = r"GET .*/history/.*/details"
TORCHRUN = [  # how torchrun ends what failed in it, shortened
    "E1122 22:40:43 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1)",
    *(f"  frame {number}" for number in range(30)),
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
]


def test_closed_terminal_and_ctrl_c(cloud: Trainable, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = listen(monkeypatch)
    cloud.azure.job_states = ["Queued", *["Running"] * 4, "Completed"]  # each look is one further

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("setup.azure.client.waiting.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cloud.agreed(finetune.run, cloud.recipe())
    told = heard.getvalue()
    assert "goes on in Azure, and costs; the same command follows it" in told
    assert "python -m setup cancel --recipe " in told
    assert "follow job" in finetune.plan(AzureSession(cloud.recipe()))[0]
    assert finetune.run(
        AzureSession(cloud.recipe())
    ).changed  # asks for nothing: it is paid for already
    assert len(cloud.azure.find(PUT_JOB)) == 1


def test_failed_job_shows_its_log_and_is_tried_again(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = listen(monkeypatch)
    recipe = cloud.recipe()
    name = job_name(recipe, cloud.assets(recipe))
    for attempt in (name, f"{name}-2"):
        cloud.azure.fail_resource(f"/jobs/{attempt}$", "Strange thing", code="UserError")
    lines = [f"step {number}" for number in range(40)]
    lines += ["torch.OutOfMemoryError: CUDA out of memory. sig=SECRET", "exit", *TORCHRUN]
    cloud.log(f"{name}..finetuning", "\n".join(lines))
    error = cloud.refused(recipe)
    assert f"job {name} failed in step finetuning: the GPU has too little memory" in error.what
    assert "finetune.compute.sku" in error.fix
    told = heard.getvalue()
    assert "the end of user_logs/std_log.txt of finetuning:" in told
    assert "step 39" in told
    assert "step 10" not in told
    assert "frame 3" not in told
    assert "SECRET" not in told + str(error)
    unreadable = cloud.azure.fail(r"GET stwork.blob", times=99, how="forbidden")
    again = cloud.refused(recipe)
    unreadable.times = 0
    assert f"job {name}-2 failed in step finetuning: UserError: Strange thing" in again.what
    assert f"reading the log of job {name}-2..finetuning: Azure answered 403" in heard.getvalue()
    assert f"the last attempt: job {name} failed in step" in heard.getvalue()
    assert cloud.agreed(finetune.run, recipe).changed
    assert [job.id.name for job in cloud.jobs()] == [name, f"{name}-2", f"{name}-3"]
    assert not cloud.agreed(finetune.run, recipe).changed


def _run(status: str, hours: float = 0.0, **said: str) -> Run:
    """A run that started ``hours`` ago and has ended, or goes on."""
    now = datetime.now(UTC)
    begun = now - timedelta(hours=hours) if hours else None
    ended = now if status in ENDED else None
    return Run("job", said.get("title", "job"), status, said.get("error", ""), begun, ended)


@pytest.mark.parametrize(
    ("hours", "says", "fix"),
    [(1.0, "was cancelled", "a new attempt"), (6.1, "ran longer than", "raise finetune.max_hours")],
)
def test_cancelled_by_somebody_or_by_its_limit(
    cloud: Trainable, hours: float, says: str, fix: str
) -> None:
    error = explain_failure(AzureSession(cloud.recipe()), _run("Canceled", hours), [])
    assert says in error.what
    assert fix in error.fix


def test_time_counts_from_the_first_machine(cloud: Trainable) -> None:
    """A pipeline runs, and costs nothing, while its first step waits for a machine."""
    follower = Follower(
        AzureSession(cloud.recipe()), "job", "command", Bounds.of_training(cloud.recipe())
    )
    pipeline = _run("Running", 9)
    assert follower._hours(pipeline, [_run("Queued")]) == 0
    done, waiting = _run("Completed", 2), _run("Queued")
    assert follower._hours(pipeline, [done, waiting]) == pytest.approx(2, abs=0.01)
    assert follower._hours(_run("Running", 3), []) == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(
    ("said", "log", "cause"),
    [
        ("UserError: exit code 1", ["error: no rows"], "error: no rows"),
        ("UserError: exit code 1", ["NCCL INFO Connected all rings", "ValueError: bad"], "bad"),
        ("UserError: exit code 1", ["ncclRemoteError: gone", "exit"], "connection was lost"),
        ("QuotaExceeded: no cores left of the quota", [], "too few cores"),
        ("", ["KeyError: 'messages'"], "cannot make training rows"),
        ("", ["column_names: messages", "OSError: full"], "OSError: full"),
        ("", [], "it gave no reason"),
    ],
)
def test_what_went_wrong(cloud: Trainable, said: str, log: list[str], cause: str) -> None:
    assert cause in what_went_wrong(AzureSession(cloud.recipe()), [said], log)[0]


def test_pipeline_that_runs_too_long_is_ended(cloud: Trainable) -> None:
    cloud.azure.job_states = ["Queued", *["Running"] * 50]
    error = cloud.refused(cloud.recipe("finetune.max_hours=0.00000001"))
    assert "ran longer than finetune.max_hours" in error.what
    assert len(cloud.azure.find(r"POST .*/jobs/.*/cancel")) == 1
    assert only(cloud.jobs()).properties["status"] in ("CancelRequested", "Canceled")


def test_cluster_without_quota_is_told_after_a_while(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_PATIENCE", 0.1)
    cluster = cloud.store("computes", "gpu-cluster").properties["properties"]
    message = "Operation results in exceeding quota limits of Total Cluster Dedicated Cores."
    cluster["errors"] = [{"error": {"code": "ClusterMinNodesExceedCoreQuota", "message": message}}]
    cloud.azure.job_states = ["Queued"]
    error = cloud.refused(cloud.recipe())
    assert "gets no machine: ClusterMinNodesExceedCoreQuota" in error.what
    recipe = cloud.recipe()
    assert f"{recipe.command('quota')} shows them" in error.fix
    assert f"the job waits for free, {recipe.command('finetune')} follows" in error.fix
    del cluster["errors"]
    only(cloud.jobs()).hidden["states"] = ["Queued", "Running", "Completed"]
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 1


def test_following_outlives_faults(cloud: Trainable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOST", 0.1)
    fault = cloud.azure.fail(DETAILS, times=999, how="dropped")
    error = cloud.refused(cloud.recipe())
    fault.times = 0
    assert re.search(r"following job phi-azure-\w+: the connection to Azure failed", error.what)
    following = f"{cloud.recipe().command('finetune')} follows it, python -m setup cancel"
    assert f"the job goes on, and costs: {following}" in error.fix
    monkeypatch.setattr(follow, "_LOST", 60.0)
    only(cloud.jobs()).hidden["states"] = ["Queued", *["Running"] * 3, "Completed"]
    for how, times in {"dropped": 5, "unavailable": 5, "throttled": 5, "token": 1}.items():
        cloud.azure.fail(DETAILS, times=times, how=how)
        cloud.azure.fail(r"GET .*/children", how=how)
    monkeypatch.setattr("setup.azure.client.waiting.sleep", lambda _: cloud.azure.login.expire())
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 1


def test_sign_in_that_is_refused_is_not_asked_again(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = AzureSession(cloud.recipe())
    assert session.subscription
    cloud.azure.login.expire()
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of-somebody-else")
    looks = list[float]()
    monkeypatch.setattr("setup.azure.client.waiting.sleep", looks.append)
    with pytest.raises(FixableError, match="AADSTS7000215") as caught:
        Follower(session, "job", "COMMAND", Bounds.of_training(session.recipe)).follow()
    assert "az login" in caught.value.fix
    assert len(looks) == 1  # for the token: signing in anew is refused
