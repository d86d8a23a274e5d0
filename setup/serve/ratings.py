"""The route ``/feedback``: what people say of an answer, for the feedback file."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from setup.common.feedback_file import FEEDBACK
from setup.serve import routes
from setup.serve.collector import COLLECTOR, Collector, model_of
from setup.serve.contract.contracts import parse_body
from setup.serve.contract.error_reply import ApiError
from setup.serve.contract.rating import Rating
from setup.serve.deployments import ENDPOINT
from setup.serve.pages import static

_NOTHING_KEPT = (
    "nothing is kept here: the endpoint was started with endpoint.collect none; "
    "python -m setup stop, then python -m setup deploy --set endpoint.collect=feedback"
)
_ROUTE = "/feedback"


def add_page(app: web.Application) -> None:
    """Give ``app`` the page to compare on, its collector and the routes of feedback."""
    app.middlewares.append(static.show_page)
    app.router.add_get(static.ROUTE, static.static_file)
    app[COLLECTOR] = Collector(app[ENDPOINT].settings)
    app.router.add_get(_ROUTE, show_collecting)
    app.router.add_post(_ROUTE, rate, expect_handler=routes.expect_nothing_yet)


async def show_collecting(request: web.Request) -> web.Response:
    """``GET /feedback``: what is kept here, and how full the file is."""
    return web.json_response(request.app[COLLECTOR].state())


async def rate(request: web.Request) -> web.Response:
    """``POST /feedback``: 403 where nothing is kept, 507 where no more is."""
    collector = request.app[COLLECTOR]
    asked: Rating = parse_body(Rating, await routes.read_body(request))
    if collector.mode == "none":
        raise ApiError(403, _NOTHING_KEPT, code="not_collected")
    kept = asked.model_dump(include={"id", "deployment", "answer", "rating"})
    record: dict[str, Any] = {
        "kind": FEEDBACK,
        "conversation": asked.conversation_id or "",
        **kept,
        "comment": asked.comment,
        "correction": asked.correction,
        "model": model_of(request, asked.deployment),
        "messages": [turn.as_sent() for turn in asked.messages],
    }
    if reason := await collector.write(record):
        raise ApiError(507, f"not kept: {reason}")
    return web.json_response({"kept": True, "id": asked.id})
