"""The PyPI `mcp` 2.x client with the tasks extension of 2026-07-28, written on the SDK's own interface for extensions.

    python tasks_mcp2.py WORLD.json     # facts: `who`, `url`, `prefix`, `without`
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal

import anyio
import mcp_types as types
from mcp.client.client import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError

CHECK_SECONDS = 30
MISSING_CAPABILITY, INVALID_PARAMS, INTERNAL_ERROR = -32021, -32602, -32603

world = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
failed = False
# What the claim saw on the way to each result: the begun task and every state.
followed: list[Any] = []


class Begun(types.Result):
    """A task instead of a result."""

    result_type: Literal["task"] = "task"
    taskId: str  # noqa: N815: as it is on the wire
    status: str
    createdAt: str  # noqa: N815
    lastUpdatedAt: str  # noqa: N815
    ttlMs: int | None  # noqa: N815
    pollIntervalMs: int | None = None  # noqa: N815


class TaskParams(types.RequestParams):
    taskId: str  # noqa: N815


class UpdateParams(TaskParams):
    inputResponses: dict[str, Any]  # noqa: N815


class Ask(types.Request[TaskParams, Literal["tasks/get", "tasks/cancel"]]):
    name_param = "taskId"
    method: Literal["tasks/get", "tasks/cancel"]
    params: TaskParams


class Update(types.Request[UpdateParams, Literal["tasks/update"]]):
    name_param = "taskId"
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateParams


class Answer(types.Result):
    """Whatever a server says of a task."""

    model_config = {"extra": "allow"}


async def look(session, task: str) -> dict[str, Any]:
    found = await session.send_request(Ask(method="tasks/get", params=TaskParams(taskId=task)), Answer)
    return found.model_dump(by_alias=True, mode="json")


async def see_through(session, begun: Begun) -> dict[str, Any]:
    """Polls until the end, and answers each question once."""
    states, answered = [], set()
    while True:
        task = await look(session, begun.taskId)
        states.append(task["status"])
        if task["status"] not in ("working", "input_required"):
            followed.append((begun, states, task))
            return task
        fresh = [key for key in task.get("inputRequests", {}) if key not in answered]
        if fresh:
            answered.update(fresh)
            said = {key: {"action": "accept", "content": {"name": "Ada of the peers"}} for key in fresh}
            await session.send_request(Update(params=UpdateParams(taskId=begun.taskId, inputResponses=said)), Answer)
        await anyio.sleep((begun.pollIntervalMs or 200) / 1000)


class Tasks(ClientExtension):
    """Sees tasks through to the result of the call."""

    identifier = "io.modelcontextprotocol/tasks"

    def claims(self):
        return [ResultClaim(result_type="task", model=Begun, resolve=self.resolve)]

    async def resolve(self, begun: Begun, context) -> types.CallToolResult:
        task = await see_through(context.session, begun)
        if task["status"] == "completed":
            return types.CallToolResult.model_validate(task["result"], by_name=False)
        error = task.get("error") or {"code": INTERNAL_ERROR, "message": task["status"]}
        raise MCPError(code=error["code"], message=error["message"], data=error.get("data"))


async def that(name, body):
    """Runs one check and prints its row."""
    global failed
    if name.split(" ")[0] in world.get("without", []):
        return
    row = {"name": f"{world['who']}/{name}", "ok": True, "detail": ""}
    try:
        with anyio.fail_after(CHECK_SECONDS):
            await body()
    except Exception as error:  # noqa: BLE001: whatever went wrong is the row's detail, and the story goes on
        failed = True
        row |= {"ok": False, "detail": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(row), flush=True)


def text(result):
    return "\n".join(block.text for block in result.content if block.type == "text")


def expect(actual, wanted):
    assert actual == wanted, f"{actual!r} is not {wanted!r}"


async def refused(code, body):
    try:
        result = await body
    except MCPError as error:
        expect(error.error.code, code)
    else:
        raise AssertionError(f"no error but {result}")


def elicit(_context, _params):
    raise AssertionError("questions of a task are in the task")


async def story(client):
    def call(name, **given):
        return client.call_tool(world["prefix"] + name, given)

    async def begin(name, **given):
        begun = await client.session.call_tool(world["prefix"] + name, given, allow_claimed=True)
        assert isinstance(begun, Begun), f"no task but {begun}"
        return begun

    async def comes_to_its_result():
        result = await call("job", seconds=0.5)
        assert text(result).startswith("Done"), text(result)
        begun, states, task = followed[-1]
        expect((begun.status, states[-1], task["taskId"]), ("working", "completed", begun.taskId))
        expect("io.modelcontextprotocol/related-task" in (task["result"].get("_meta") or {}), False)

    async def tool_error():
        result = await call("job_failing", seconds=0.1)
        expect((result.is_error, text(result), followed[-1][1][-1]), (True, "the job failed", "completed"))

    async def crash():
        await refused(INTERNAL_ERROR, call("job_crashing", seconds=0.1))
        _, states, task = followed[-1]
        # A server may say more around it.
        expect((states[-1], task["error"]["message"].endswith("the job crashed")), ("failed", True))

    async def is_asked():
        expect(text(await call("job_asking", seconds=0.3)), "Done for Ada of the peers")
        assert "input_required" in followed[-1][1], followed[-1][1]

    async def cancels():
        begun = await begin("job", seconds=600)
        await client.session.send_request(Ask(method="tasks/cancel", params=TaskParams(taskId=begun.taskId)), Answer)
        while (task := await look(client.session, begun.taskId))["status"] == "working":
            await anyio.sleep(0.1)
        expect(task["status"], "cancelled")
        # Also when it is over.
        await client.session.send_request(Ask(method="tasks/cancel", params=TaskParams(taskId=begun.taskId)), Answer)

    async def many_at_once():
        results = {}

        async def one(at):
            results[at] = text(await call("job", seconds=0.2))

        async with anyio.create_task_group() as group:
            for at in range(20):
                group.start_soon(one, at)
        assert len(results) == 20 and all(said.startswith("Done") for said in results.values()), results
        expect(len({begun.taskId for begun, _, _ in followed[-20:]}), 20)

    async def unknown():
        await refused(INVALID_PARAMS, look(client.session, "no-such-task"))

    await that("S-TX-03 S-TX-05 a call becomes a task and comes to its result", comes_to_its_result)
    await that("S-TX-05 a tool that fails completes its task", tool_error)
    await that("crash S-TX-05 a request that fails fails its task", crash)
    await that("S-TX-06 answers what a task asks", is_asked)
    await that("S-TX-07 cancels a task", cancels)
    await that("S-TX-05 twenty tasks at once", many_at_once)
    await that("S-TX-05 an unknown task is an error", unknown)


async def undeclared():
    """A client that does not declare the extension, in the middle of the same server."""
    async with Client(world["url"], mode="2026-07-28", elicitation_callback=elicit, cache=None) as client:
        await refused(MISSING_CAPABILITY, look(client.session, "no-such-task"))


async def main():
    async def whole():
        options = {"mode": "2026-07-28", "elicitation_callback": elicit, "cache": None}
        async with Client(world["url"], extensions=[Tasks()], **options) as client:
            await story(client)

    await that("connects and ends", whole)
    await that("S-TX-08 who does not declare the extension is told so", undeclared)


anyio.run(main)
sys.exit(1 if failed else 0)
