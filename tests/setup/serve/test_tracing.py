"""One trace over flow, endpoint and engine, as a collector or Application Insights has it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

import pytest
import requests

from tests.conftest import MakeHome
from tests.home import ROOT, Home, ask, ask_openai, free_port
from tests.scripted.collector import UNSET, Collector, collecting, variables

QUESTION = "What is the capital of France?"
AGENTS = ROOT / ".venv-agents" / "bin" / "python"
SERVER, CLIENT = 2, 3
PARENT = "00f067aa0ba902b7"


def _chat(traced: Home, question: str = QUESTION) -> subprocess.CompletedProcess[str]:
    done = traced.pf("flow", "test", "--flow", "flows/chat", "--inputs", f"question={question}")
    assert done.returncode == 0, done.stderr
    return done


def test_one_trace_with_equal_tokens(traced: Home, collector: Collector) -> None:
    answer = _chat(traced).stdout
    spans = collector.trace({"chat phi", "POST /score", "chat base"})
    flow, endpoint, engine = spans["chat phi"], spans["POST /score"], spans["chat base"]
    assert (flow.parent, endpoint.parent, engine.parent) == ("", flow.id, endpoint.id)
    assert (flow.kind, endpoint.kind, engine.kind) == (CLIENT, SERVER, CLIENT)
    assert flow.service == "finetune-phi-flow"
    assert endpoint.service == engine.service == "finetune-phi-endpoint"
    assert flow.tokens == endpoint.tokens == engine.tokens
    line = next(line for line in traced.log() if line.get("trace_id") == flow.trace)
    assert (line["prompt_tokens"], line["completion_tokens"]) == flow.tokens
    assert flow.attributes["gen_ai.operation.name"] == "chat"
    assert flow.attributes["gen_ai.request.temperature"] == 0
    assert engine.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert engine.attributes["llama_cpp.timings.predicted_ms"] > 0
    assert endpoint.attributes["http.response.status_code"] == 200
    assert "Paris" in answer
    assert collector.headers[0]["x-collector-key"] == "c0llector-secret"


def test_no_question_answer_or_key_leaves(traced: Home, collector: Collector) -> None:
    _chat(traced)
    collector.trace({"chat phi", "POST /score", "chat base"})
    text = "".join(collector.bodies)
    assert "chat phi" in text
    for secret in (QUESTION, "Paris", traced.key(), traced.key("management"), "c0llector-secret"):
        assert secret not in text


def test_content_is_shown_where_it_is_switched_on(traced: Home) -> None:
    with collecting() as collector:
        shown = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
        with traced.altered(**variables(collector.url, **shown)):
            _chat(traced)
        flow = collector.trace({"chat phi"})["chat phi"]
    assert json.loads(flow.attributes["gen_ai.input.messages"])[-1] == {
        "role": "user",
        "parts": [{"type": "text", "content": QUESTION}],
    }
    said = json.loads(flow.attributes["gen_ai.output.messages"])
    assert said[0]["parts"][0]["content"] == "The capital of France is Paris."


def test_trace_of_a_client_goes_on(traced: Home, collector: Collector) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"traceparent": f"00-{trace}-{PARENT}-01"}
    body = ask_openai("Hello?", stream=True, max_tokens=4)
    assert traced.call("/v1/chat/completions", body, **sent).status_code == 200
    spans = collector.trace({"POST /v1/chat/completions", "chat base"})
    endpoint, engine = spans["POST /v1/chat/completions"], spans["chat base"]
    assert (endpoint.trace, endpoint.parent, engine.parent) == (trace, PARENT, endpoint.id)
    assert engine.tokens == endpoint.tokens
    assert engine.tokens[1] == 4
    assert engine.attributes["gen_ai.response.time_to_first_chunk"] > 0


def test_refused_request_has_a_span_and_an_unsampled_one_none(
    traced: Home, collector: Collector
) -> None:
    unsampled, refused = f"{1:032x}", f"{2:032x}"
    traced.call("/score", ask("Hello?"), traceparent=f"00-{unsampled}-{PARENT}-00")
    wrong = {"Authorization": "Bearer wr0ng-key", "traceparent": f"00-{refused}-{PARENT}-01"}
    assert traced.call("/score", ask("Hello?"), **wrong).status_code == 401
    # Whatever a client takes for a trace is no failure of its request.
    assert traced.call("/score", ask("Hello?"), traceparent="00-nonsense").status_code == 200
    spans = collector.spans_of(refused, "POST /score")
    assert [(s.name, s.attributes["error.type"], s.error) for s in spans] == [
        ("POST /score", "401", False)
    ]
    assert "wr0ng-key" not in "".join(collector.bodies)
    assert unsampled not in {span.trace for span in collector.spans}


def test_application_insights_by_connection_string(traced: Home) -> None:
    with collecting() as insights:
        key = "InstrumentationKey=00000000-0000-0000-0000-000000000001"
        string = f"{key};IngestionEndpoint={insights.url}/"
        named = {"APPLICATIONINSIGHTS_CONNECTION_STRING": string}
        with traced.altered(**UNSET | {"OTEL_EXPORTER_OTLP_ENDPOINT": ""} | named):
            _chat(traced)
        text = "".join(insights.bodies)
    assert "gen_ai.usage.output_tokens" in text
    assert "finetune-phi-flow" in text
    assert "Paris" not in text


def test_collector_that_is_down_is_one_line(traced: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        places = ["http://127.0.0.1:9", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        for place, told in zip(
            places, ("(ConnectionError) and are lost", "within 2 s"), strict=True
        ):
            with traced.altered(**variables(place, OTEL_BSP_SCHEDULE_DELAY="60000")):
                done = _chat(traced)
            assert "Paris" in done.stdout
            lines = [line for line in done.stderr.splitlines() if "traces" in line]
            assert len(lines) == 1, done.stderr
            assert told in lines[0]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "gives up (ValueError). Fix: check OTEL_"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "grpc is not spoken here. Fix: unset"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "key=c0llector-secret", "is not valid. Fix: "),
    ],
)
def test_variable_that_is_wrong_is_one_line(traced: Home, name: str, value: str, told: str) -> None:
    url = "" if name.startswith("APP") else "http://127.0.0.1:9"
    with traced.altered(**variables(url, **{name: value})):
        done = _chat(traced)
    assert "Paris" in done.stdout
    lines = [line for line in done.stderr.splitlines() if "no traces" in line]
    assert len(lines) == 1, done.stderr
    assert told in lines[0]
    assert "c0llector-secret" not in done.stderr


def test_status_and_log_say_where_traces_go(traced: Home, collector: Collector) -> None:
    place = collector.url.removeprefix("http://")
    told = f"traces go to {place}, without questions and answers"
    assert told in traced.setup("status").stdout
    assert told in traced.setup("deploy").stderr
    assert told in [line["message"] for line in traced.log()]


def test_off_nothing_is_imported_and_a_later_wish_is_answered(make_home: MakeHome) -> None:
    program = (
        "import sys, setup.serve.container.serve, flows.chat.scoring_client.turn\n"
        "from pathlib import Path; from setup.serve import server, deployments, settings\n"
        "where = settings.EndpointSettings(name='e', host='127.0.0.1', port=1)\n"
        "server.build_app(deployments.Endpoint(where, Path(sys.argv[1])))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    home = make_home()
    home.extra_env = UNSET | {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    done = home.run("-c", program, str(home.path))
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    assert "traces" not in home.setup("deploy").stderr
    with home.altered(**variables("http://127.0.0.1:9")):
        told = home.setup("deploy").stderr
    assert "sends no traces, though a collector is named. Fix: see python -m setup logs" in told


@pytest.mark.skipif(not AGENTS.exists(), reason="no environment of Agent Framework: make agents")
def test_agent_is_the_root_of_its_trace(traced: Home, collector: Collector) -> None:
    row = json.dumps({"question": QUESTION})
    done = subprocess.run(
        [str(AGENTS), "-m", "flows.chat_agent", "ask"],
        cwd=ROOT,
        env=traced.env | {"PHI_KEY": traced.key()},
        input=row + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = {"invoke_agent chat", "chat phi", "POST /score", "chat base"}
    spans = collector.trace(names)
    assert set(spans) == names
    assert spans["chat phi"].parent == spans["invoke_agent chat"].id
    assert len({span.tokens for span in spans.values()}) == 1


def test_what_is_said_on_the_chat_page_goes_to_no_collector(
    traced: Home, collector: Collector
) -> None:
    url, question = f"http://127.0.0.1:{free_port()}", "Which bird is called Quillfern?"
    command = [sys.executable, "-m", "setup", "chat", "--no-browser", "--host", "127.0.0.1"]
    command += ["--port", url.rpartition(":")[2]]
    collector.spans.clear()
    with subprocess.Popen(
        command, cwd=ROOT, env=traced.env, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not _answers(f"{url}/health"):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            reply = requests.post(f"{url}/score", json={"question": question}, timeout=60)
            assert reply.status_code == 200, reply.text
            collector.trace({"POST /score", "chat base"})
        finally:
            process.terminate()
            told = process.communicate()[1]
    assert "the page is not traced (OTEL_EXPORTER_OTLP_ENDPOINT)" in told
    assert not [body for body in collector.bodies if "Quillfern" in body]


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
