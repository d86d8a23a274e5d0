"""Upload the flows to the project, so that they can be seen, chatted with and run in the portal.

The service makes a new flow of every upload. What is there already is found by two tags that each
upload carries, the flow's name and the SHA-256 of its files; an unchanged flow is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from setup.azure.client.session import AzureSession
from setup.azure.project import client as projects
from setup.common import console
from setup.common.flow_folder import CleanFlow, clean_flow, flow_names
from setup.common.step import Result

NAME_TAG, HASH_TAG = "finetune-phi-flow", "finetune-phi-sha256"
_SHORT = 8  # characters of a hash in a display name

Uploads = Mapping[str, Sequence[tuple[str, str]]]  # by flow: SHA-256 and id of each, newest last


def plan(session: AzureSession) -> list[str]:
    """List what ``run`` would upload; only reads."""
    recipe = session.recipe
    project = recipe.azure.project
    uploads: Uploads = {}
    if projects.is_there(session):
        with projects.flow_errors(session, f"reading the flows of project {project}"):
            uploads = _find_uploads(session, projects.project_client(session))
    lines = []
    for flow in _flows(session):
        done = " (unchanged)" if _ids(uploads, flow)[0] else ""
        lines.append(f"{flow.kind} flow {_display_name(flow)} to project {project}{done}")
    return lines


def run(session: AzureSession) -> Result:
    """Upload every flow that is not in the project as it is here.

    Raises:
        FixableError: There is no project, or Azure refuses; where the storage account takes no keys
            and the login has no role on its files, the role and the scope.
    """
    recipe = session.recipe
    project = recipe.azure.project
    with console.progress_bar(f"Opening project {project}"):
        projects.require_project(session)
        with projects.flow_errors(session, f"reading the flows of project {project}"):
            client = projects.project_client(session)
            uploads = _find_uploads(session, client)
    changed, older, link = False, list[str](), ""
    flows = _flows(session)
    with console.progress_bar("Uploading the flows", len(flows)) as bar:
        for number, flow in enumerate(flows, start=1):
            id_, others = _ids(uploads, flow)
            with projects.flow_errors(session, f"uploading flow {flow.name} to project {project}"):
                uploaded = client.flows.get(id_) if id_ else _upload(client, flow)
            changed |= not id_
            link = link or str(uploaded.flow_portal_url or "")
            older += others
            bar.update(console.TASK, completed=number)
    names = ", ".join(_display_name(flow) for flow in flows)
    detail = f"{names} are in project {project}; {_where(link)}{_about(older)}"
    return Result("upload", changed, detail, recipe.command("run", of="evaluation"))


def _ids(uploads: Uploads, flow: CleanFlow) -> tuple[str, list[str]]:
    """The id of the upload with the very same files, empty if there is none, and all others.

    Those by the name that the portal shows, and the id, which two of one name do not share.
    """
    known = uploads.get(flow.name, ())
    current = next((id_ for digest, id_ in reversed(known) if digest == flow.sha256), "")
    others = [(digest, id_) for digest, id_ in known if id_ != current]
    return current, [f"{_named(flow.name, digest)} ({id_})" for digest, id_ in others]


def uploaded_flows(session: AzureSession) -> dict[str, list[str]]:
    """The ids of the flows in the project that uploads made, by the flow's name."""
    if not projects.is_there(session):
        return {}
    with projects.flow_errors(
        session, f"reading the flows of project {session.recipe.azure.project}"
    ):
        uploads = _find_uploads(session, projects.project_client(session))
    return {name: [id_ for _, id_ in ids] for name, ids in uploads.items()}


def _flows(session: AzureSession) -> list[CleanFlow]:
    return [clean_flow(name, session.recipe.connection) for name in flow_names()]


def _display_name(flow: CleanFlow) -> str:
    return _named(flow.name, flow.sha256)


def _named(flow: str, digest: str) -> str:
    return f"{flow}-{digest[:_SHORT]}"


def _where(link: str) -> str:
    """Tell where to chat: the service does not always know a flow's page."""
    return (
        f"chat there: {link}" if link else "chat in https://ai.azure.com, the project, Prompt flow"
    )


def _about(older: Sequence[str]) -> str:
    if not older:
        return ""
    how = "delete them in the portal: Prompt flow, select them, Delete"
    return f"; older uploads are there as well ({', '.join(older)}); {how}"


def _find_uploads(session: AzureSession, client: Any) -> Uploads:
    """Asks the flow service itself: ``flows.list`` asks an index, which lags behind an upload."""
    listed = client.flows._service_caller.list_flows(
        subscription_id=session.subscription_id,
        resource_group_name=session.group,
        workspace_name=session.recipe.azure.project,
        list_view_type="ActiveOnly",
    )
    uploads: dict[str, list[tuple[str, str]]] = {}
    for flow in sorted(listed or (), key=lambda flow: str(flow.created_date)):
        tags = flow.tags or {}
        if NAME_TAG in tags:
            digest = str(tags.get(HASH_TAG, ""))
            uploads.setdefault(tags[NAME_TAG], []).append((digest, str(flow.flow_id)))
    return uploads


def _upload(client: Any, flow: CleanFlow) -> Any:
    from promptflow._sdk._errors import FlowOperationError

    create = partial(
        client.flows.create_or_update,
        str(flow.folder),
        display_name=_display_name(flow),
        type=flow.kind,
        description=f"flows/{flow.name} of finetune-phi, SHA-256 of its files {flow.sha256}",
        tags={NAME_TAG: flow.name, HASH_TAG: flow.sha256},
    )
    try:
        return create()
    except FlowOperationError as error:
        if "already exists" not in str(error):
            raise
        time.sleep(1)  # the client names the folder in the share by the second
        return create()
