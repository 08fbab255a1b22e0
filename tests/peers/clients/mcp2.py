"""The PyPI `mcp` 2.x client, in the era it is told.

    python mcp2.py WORLD.json handshake | stateless | auto
"""

import json
import re
import sys
import warnings
from pathlib import Path

import anyio
import mcp_types as types
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

CHECK_SECONDS = 30
MODES = {"handshake": "legacy", "stateless": "2026-07-28", "auto": "auto"}

world = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
era = sys.argv[2]
failed = False


async def that(name, body):
    """Runs one check and prints its row."""
    global failed
    row = {"name": f"mcp 2.x {era}/{name}", "ok": True, "detail": ""}
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


async def sample(_context, params):
    assert "what is a yard?" in params.messages[0].content.text
    said = types.TextContent(type="text", text="sampled by the peer")
    return types.CreateMessageResult(role="assistant", model="none", content=said)


async def story(client):
    async def lists_tools():
        # All five are programs that take their time to start, and a list does not wait long for them.
        with anyio.move_on_after(20):
            while set(world["tools"]) - {tool.name for tool in (await client.list_tools()).tools}:
                await anyio.sleep(0.1)
        names = [tool.name for tool in (await client.list_tools()).tools]
        missing = set(world["tools"]) - set(names)
        assert not missing, f"{missing} are not among {names}"
        assert len(set(names)) == len(names), "a name is listed twice"
        assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in names)

    async def lists_prompts():
        prompts = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        expect([argument.name for argument in prompts["everything__args-prompt"].arguments], ["city", "state"])

    async def lists_resources():
        assert world["resource"] in [str(one.uri) for one in (await client.list_resources()).resources]
        templates = (await client.list_resource_templates()).resource_templates
        assert "demo://resource/dynamic/text/{resourceId}" in [one.uri_template for one in templates]

    async def calls_everything():
        expect(text(await client.call_tool("everything__echo", {"message": "grüße 你好"})), "Echo: grüße 你好")

    async def gets_structured_content():
        result = await client.call_tool("everything__get-structured-content", {"location": "New York"})
        expect(result.structured_content, {"temperature": 33, "conditions": "Cloudy", "humidity": 82})

    async def calls_filesystem():
        result = await client.call_tool("files__read_text_file", {"path": f"{world['folder']}/hello.txt"})
        expect(text(result).strip(), world["hello"])

    async def calls_memory():
        name = f"mcp {era} was here"
        entity = {"name": name, "entityType": "visit", "observations": ["through the gateway"]}
        await client.call_tool("memory__create_entities", {"entities": [entity]})
        assert "through the gateway" in text(await client.call_tool("memory__search_nodes", {"query": name}))

    async def calls_time():
        times = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        assert "T21:00:00+09:00" in text(await client.call_tool("time__convert_time", times))

    async def calls_git():
        assert world["commit"] in text(await client.call_tool("git__git_log", {"repo_path": world["repository"]}))

    async def follows_progress():
        seen = []

        async def on_progress(progress, total, _message):
            seen.append((progress, total))

        arguments = {"duration": 0.4, "steps": 4}
        name = "everything__trigger-long-running-operation"
        await client.call_tool(name, arguments, progress_callback=on_progress)
        expect(seen, [(1, 4), (2, 4), (3, 4), (4, 4)])

    async def cancels():
        begun = anyio.current_time()
        with anyio.move_on_after(0.5) as scope:
            await client.call_tool("everything__trigger-long-running-operation", {"duration": 25, "steps": 250})
        assert scope.cancelled_caught and anyio.current_time() - begun < 10
        expect(text(await client.call_tool("everything__echo", {"message": "still here"})), "Echo: still here")

    async def reads_a_resource():
        content = (await client.read_resource(world["resource"])).contents[0]
        expect((str(content.uri), content.text), (world["resource"], world["document"]))

    async def gets_a_prompt():
        result = await client.get_prompt("everything__args-prompt", {"city": "Paris"})
        expect(result.messages[0].content.text, "What's weather in Paris?")

    async def completes():
        reference = types.PromptReference(type="ref/prompt", name="everything__completable-prompt")
        result = await client.complete(reference, {"name": "department", "value": "E"})
        expect(result.completion.values, ["Engineering"])

    async def unknown_tool():
        try:
            await client.call_tool("everything__no-such-tool", {})
        except MCPError as error:
            expect(error.error.code, -32602)
        else:
            raise AssertionError("no error")

    async def error_result():
        result = await client.call_tool("files__read_text_file", {"path": "/etc/hostname"})
        assert result.is_error and re.search("denied|outside", text(result), re.IGNORECASE), text(result)

    async def samples():
        result = await client.call_tool("everything__trigger-sampling-request", {"prompt": "what is a yard?"})
        assert "sampled by the peer" in text(result), text(result)

    await that("lists the tools of all five servers", lists_tools)
    await that("lists prompts with prefixed names", lists_prompts)
    await that("lists resources and templates with their own URIs", lists_resources)
    await that("calls server-everything", calls_everything)
    await that("gets structured content that fits its schema", gets_structured_content)
    await that("calls server-filesystem", calls_filesystem)
    await that("calls server-memory", calls_memory)
    await that("calls mcp-server-time", calls_time)
    await that("calls mcp-server-git", calls_git)
    await that("follows progress", follows_progress)
    await that("cancels a call and goes on", cancels)
    await that("reads a resource", reads_a_resource)
    await that("gets a prompt", gets_a_prompt)
    await that("completes an argument", completes)
    await that("an unknown tool is an error", unknown_tool)
    await that("a tool's own error is a result", error_result)
    if era == "handshake":
        await that("answers sampling for a server", samples)


async def main():
    connected = False

    async def whole():
        nonlocal connected
        async with Client(world["url"], mode=MODES[era], sampling_callback=sample, cache=None) as client:
            connected = True

            async def speaks():
                expect(client.protocol_version, "2025-11-25" if era == "handshake" else "2026-07-28")

            async def calls_a_tool():
                expect(text(await client.call_tool("everything__echo", {"message": "found"})), "Echo: found")

            await that("connects", speaks)
            if era == "auto":
                await that("calls a tool", calls_a_tool)
            else:
                await story(client)

    try:
        with anyio.fail_after(240):
            await whole()
    except Exception as error:  # noqa: BLE001

        async def again():
            raise error

        await that("closes" if connected else "connects", again)


# Handshake-era features are deprecated in the 2.x SDK and used here on purpose.
warnings.simplefilter("ignore")
anyio.run(main)
sys.exit(1 if failed else 0)
