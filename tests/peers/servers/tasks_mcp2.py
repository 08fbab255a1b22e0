"""A server of the PyPI `mcp` 2.x SDK over HTTP with the tasks extension of 2026-07-28, written on its interface for extensions.

Jobs under the names of the gateway's own demo server; each is a task for who can do tasks, and a plain call for who cannot.
Prints `endpoint URL`. Speaks both eras; who configures it pins it to the stateless one.
"""

import asyncio
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

IDENTIFIER = "io.modelcontextprotocol/tasks"
FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
QUESTION = {"method": "elicitation/create", "params": {"mode": "form", "message": "What is your name?", "requestedSchema": FORM}}


def now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class Task:
    """One job at work; `detail` is what belongs to its state."""

    status: str = "working"
    detail: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    answer: asyncio.Future | None = None
    work: asyncio.Task | None = None

    def become(self, status: str, **detail: Any) -> None:
        self.status, self.detail, self.updated = status, detail, now()

    def begun(self) -> dict[str, Any]:
        return {
            "taskId": self.id, "status": self.status, "createdAt": self.created, "lastUpdatedAt": self.updated,
            "ttlMs": None, "pollIntervalMs": 100,
        }

    async def ask(self) -> dict[str, Any]:
        self.answer = asyncio.get_running_loop().create_future()
        self.become("input_required", inputRequests={"who/1": QUESTION})
        return await self.answer


async def work(task: Task, name: str, given: dict[str, Any]) -> None:
    try:
        await asyncio.sleep(given.get("seconds", 0.2))
        if name == "job_crashing":
            task.become("failed", error={"code": -32603, "message": "the job crashed"})
        elif name == "job_asking":
            answer = await task.ask()
            task.become("completed", result=said(f"Done for {answer.get('content', {}).get('name', 'nobody')}"))
        else:
            task.become("completed", result=said("the job failed" if name == "job_failing" else "Done", name == "job_failing"))
    except asyncio.CancelledError:
        task.become("cancelled")


def said(text: str, is_error: bool = False) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error, "resultType": "complete"}


class TaskParams(types.RequestParams):
    taskId: str  # noqa: N815: as it is on the wire


class UpdateParams(TaskParams):
    inputResponses: dict[str, Any]  # noqa: N815


class Tasks(Extension):
    identifier = IDENTIFIER

    def __init__(self) -> None:
        self.all: dict[str, Task] = {}

    def methods(self) -> Sequence[MethodBinding]:
        only = frozenset({"2026-07-28"})
        return [
            MethodBinding("tasks/get", TaskParams, self.get, only),
            MethodBinding("tasks/update", UpdateParams, self.update, only),
            MethodBinding("tasks/cancel", TaskParams, self.cancel, only),
        ]

    async def intercept_tool_call(self, params, ctx, call_next):
        if not declares(params) or not params.name.startswith("job"):
            return await call_next(ctx)
        task = Task()
        self.all[task.id] = task
        task.work = asyncio.create_task(work(task, params.name, params.arguments or {}))
        return {"resultType": "task", **task.begun()}

    def found(self, params: TaskParams) -> Task:
        if not declares(params):
            data = {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}}
            raise MCPError(code=-32021, message="this needs a client that can do tasks", data=data)
        task = self.all.get(params.taskId)
        if task is None:
            raise MCPError(code=-32602, message="no such task")
        return task

    async def get(self, _context, params: TaskParams):
        task = self.found(params)
        return {"resultType": "complete", **task.begun(), **task.detail}

    async def update(self, _context, params: UpdateParams):
        task = self.found(params)
        answer = params.inputResponses.get("who/1")
        if answer is not None and task.answer is not None and not task.answer.done():
            task.become("working")
            task.answer.set_result(answer)
        return {"resultType": "complete"}

    async def cancel(self, _context, params: TaskParams):
        task = self.found(params)
        if task.work is not None:
            task.work.cancel()
        return {"resultType": "complete"}


def declares(params: types.RequestParams) -> bool:
    meta = dict(params.meta or {})
    capabilities = meta.get("io.modelcontextprotocol/clientCapabilities") or {}
    return IDENTIFIER in (capabilities.get("extensions") or {})


server = MCPServer("peer-tasks-mcp2", extensions=[Tasks()])


async def job(seconds: float = 0.2) -> str:
    """Work for some seconds."""
    await asyncio.sleep(seconds)
    return "Done"


async def job_failing(seconds: float = 0.2) -> str:
    """Work, then fail."""
    await asyncio.sleep(seconds)
    raise ValueError("the job failed")


for name, tool in (("job", job), ("job_failing", job_failing), ("job_crashing", job), ("job_asking", job)):
    server.add_tool(tool, name=name, structured_output=False)


async def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(f"endpoint http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    await uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).serve(sockets=[listener])


anyio.run(main)
