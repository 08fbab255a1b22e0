// What every JavaScript client does through the gateway: list, call all five servers, read, get, complete, follow progress,
// cancel, and fail cleanly. Each check prints one row; a check that hangs fails after its own time.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

const CHECK_SECONDS = 30;

/** The facts of this run: the gateway's URL and what lies behind it. */
export const world = JSON.parse(await readFile(process.argv[2], 'utf8'));

/** Rows for `tests/run`, named after the client. */
export class Checks {
  constructor(client) {
    this.client = client;
    this.failed = false;
  }

  /** Runs one check; what it throws is the row's detail, and the story goes on. */
  async that(name, body) {
    let timer;
    const tooLong = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${CHECK_SECONDS} s`)), CHECK_SECONDS * 1000);
    });
    let row = { name: `${this.client}/${name}`, ok: true, detail: '' };
    try {
      await Promise.race([body(), tooLong]);
    } catch (error) {
      this.failed = true;
      row = { ...row, ok: false, detail: String(error?.stack ?? error).split("\n")[0].slice(0, 500) };
    } finally {
      clearTimeout(timer);
    }
    process.stdout.write(`${JSON.stringify(row)}\n`);
  }
}

/** All text blocks of a result, as one string. */
export function text(result) {
  return result.content.filter((block) => block.type === 'text').map((block) => block.text).join('\n');
}

/** Waits until `ready()` is true; what the world does in the background has no promise to await. */
export async function until(what, ready) {
  const end = Date.now() + 15_000;
  while (!ready()) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits until a tool is listed: a list does not wait long for a server that is slow to start. */
export async function listed(client, name) {
  const end = Date.now() + 15_000;
  for (;;) {
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    if (names.includes(name)) return names;
    assert.ok(Date.now() < end, `${name} is not among ${names.join(' ')}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * The common story. `api` hides how the two generations of the SDK differ:
 * `{ client, call(name, args, options) }`, where options are `{ onprogress, signal }`.
 */
export async function story(checks, { client, call }) {
  await checks.that('lists the tools of all five servers', async () => {
    // All five are programs that take their time to start.
    for (const name of world.tools) await listed(client, name);
    const { tools } = await client.listTools();
    const names = tools.map((tool) => tool.name);
    for (const name of world.tools) assert.ok(names.includes(name), `${name} is gone from ${names.join(' ')}`);
    assert.equal(new Set(names).size, names.length, 'a name is listed twice');
    for (const name of names) assert.match(name, /^[A-Za-z0-9_-]{1,64}$/);
    const echo = tools.find((tool) => tool.name === 'everything__echo');
    assert.deepEqual(echo.inputSchema.required, ['message']);
    assert.equal(echo.annotations.readOnlyHint, true);
  });

  await checks.that('lists prompts with prefixed names', async () => {
    const { prompts } = await client.listPrompts();
    const prompt = prompts.find((one) => one.name === 'everything__args-prompt');
    assert.deepEqual(prompt?.arguments.map((argument) => [argument.name, argument.required]), [['city', true], ['state', false]]);
  });

  await checks.that('lists resources and templates with their own URIs', async () => {
    const { resources } = await client.listResources();
    assert.ok(resources.some((one) => one.uri === world.resource), 'the document is not listed');
    const { resourceTemplates } = await client.listResourceTemplates();
    assert.ok(resourceTemplates.some((one) => one.uriTemplate === 'demo://resource/dynamic/text/{resourceId}'));
  });

  await checks.that('calls server-everything', async () => {
    const said = 'grüße — 你好 — "quoted" \\ \u0001';
    assert.equal(text(await call('everything__echo', { message: said })), `Echo: ${said}`);
  });

  await checks.that('gets structured content that fits its schema', async () => {
    const result = await call('everything__get-structured-content', { location: 'Chicago' });
    assert.deepEqual(result.structuredContent, { temperature: 36, conditions: 'Light rain / drizzle', humidity: 82 });
  });

  await checks.that('gets an image', async () => {
    const result = await call('everything__get-tiny-image', {});
    const image = result.content.find((block) => block.type === 'image');
    assert.equal(image.mimeType, 'image/png');
    assert.equal(Buffer.from(image.data, 'base64').subarray(1, 4).toString(), 'PNG');
  });

  await checks.that('calls server-filesystem', async () => {
    assert.equal(text(await call('files__read_text_file', { path: `${world.folder}/hello.txt` })).trim(), world.hello);
  });

  await checks.that('calls server-memory', async () => {
    const name = `${checks.client} was here`;
    await call('memory__create_entities', { entities: [{ name, entityType: 'visit', observations: ['through the gateway'] }] });
    assert.ok(text(await call('memory__search_nodes', { query: name })).includes('through the gateway'));
  });

  await checks.that('calls mcp-server-time', async () => {
    const times = { source_timezone: 'UTC', time: '12:00', target_timezone: 'Asia/Tokyo' };
    assert.match(text(await call('time__convert_time', times)), /T21:00:00\+09:00/);
  });

  await checks.that('calls mcp-server-git', async () => {
    assert.ok(text(await call('git__git_log', { repo_path: world.repository })).includes(world.commit));
  });

  await checks.that('follows progress', async () => {
    const seen = [];
    const result = await call(
      'everything__trigger-long-running-operation',
      { duration: 0.4, steps: 4 },
      { onprogress: (progress) => seen.push([progress.progress, progress.total]) }
    );
    assert.match(text(result), /completed/);
    assert.deepEqual(seen, [[1, 4], [2, 4], [3, 4], [4, 4]]);
  });

  await checks.that('cancels a call and goes on', async () => {
    const stop = new AbortController();
    const begun = Date.now();
    const call_ = call(
      'everything__trigger-long-running-operation',
      { duration: 25, steps: 250 },
      { onprogress: () => stop.abort(new Error('enough')), signal: stop.signal }
    );
    await assert.rejects(call_);
    assert.ok(Date.now() - begun < 10_000, 'the call ended by itself instead');
    assert.equal(text(await call('everything__echo', { message: 'still here' })), 'Echo: still here');
  });

  await checks.that('runs calls to all servers at once without mixing them up', async () => {
    const calls = Array.from({ length: 40 }, (_, i) => [
      call('everything__echo', { message: `echo ${i}` }).then((result) => assert.equal(text(result), `Echo: echo ${i}`)),
      call('files__read_text_file', { path: `${world.folder}/${i % 4}.txt` }).then((result) =>
        assert.equal(text(result).trim(), `file ${i % 4}`)
      ),
    ]);
    await Promise.all(calls.flat());
  });

  await checks.that('reads a resource', async () => {
    const { contents } = await client.readResource({ uri: world.resource });
    assert.equal(contents[0].uri, world.resource);
    assert.equal(contents[0].mimeType, 'text/markdown');
    assert.equal(contents[0].text, world.document);
  });

  await checks.that('reads a resource of a template', async () => {
    const { contents } = await client.readResource({ uri: 'demo://resource/dynamic/text/7' });
    assert.match(contents[0].text, /^Resource 7: /);
  });

  await checks.that('gets a prompt', async () => {
    const { messages } = await client.getPrompt({ name: 'everything__args-prompt', arguments: { city: 'Paris', state: 'Texas' } });
    assert.deepEqual(messages, [{ role: 'user', content: { type: 'text', text: "What's weather in Paris, Texas?" } }]);
  });

  await checks.that('completes an argument', async () => {
    const { completion } = await client.complete({
      ref: { type: 'ref/prompt', name: 'everything__completable-prompt' },
      argument: { name: 'name', value: 'D' },
      context: { arguments: { department: 'Sales' } },
    });
    assert.deepEqual(completion.values, ['David']);
  });

  await checks.that('an unknown tool is an error', async () => {
    await assert.rejects(call('everything__no-such-tool', {}), (error) => error.code === -32602);
  });

  await checks.that("a tool's own error is a result", async () => {
    const result = await call('files__read_text_file', { path: '/etc/hostname' });
    assert.equal(result.isError, true);
    assert.match(text(result), /denied|outside/i);
  });

  await checks.that("the server's process does not see the gateway's environment", async () => {
    const seen = text(await call('everything__get-env', {}));
    assert.ok(!seen.includes(world.canary), 'a variable of the gateway reached the server');
    assert.ok(seen.includes(world.given), 'the variable of the configuration is missing');
  });
}
