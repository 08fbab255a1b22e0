// The 1.x SDK over HTTP+SSE of 2024-11-05. Facts: `who`, `url` (of the stream), `tools`.

import assert from 'node:assert/strict';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { meet, visitor } from './meet.mjs';
import { Checks, text, world } from './story.mjs';

const checks = new Checks(world.who);
const client = visitor();
let endpoint;
// Where the client posts to, for a stranger's try below.
const transport = new SSEClientTransport(new URL(world.url), {
  fetch: (url, options) => {
    if (options?.method === 'POST') endpoint = String(url);
    return fetch(url, options);
  },
});

await checks.that('S-SSE-01 connects: the endpoint comes first, answers come on the stream', () => client.connect(transport));
if (!checks.failed) {
  await meet(checks, client, world.tools);
  await checks.that('S-SSE-02 messages are accepted with 202, a foreign token is not found', async () => {
    const post = (url) =>
      fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/nothing' }),
      });
    assert.equal((await post(endpoint)).status, 202);
    const foreign = new URL(endpoint);
    foreign.searchParams.set('sessionId', '00000000-0000-4000-8000-000000000000');
    assert.equal((await post(foreign)).status, 404);
  });
  await checks.that('two clients are two sessions', async () => {
    const other = visitor();
    await other.connect(new SSEClientTransport(new URL(world.url)));
    const call = { name: world.tools.echo, arguments: { text: 'other' } };
    const [mine, theirs] = await Promise.all([
      client.callTool({ name: world.tools.echo, arguments: { text: 'mine' } }),
      other.callTool(call),
    ]);
    assert.match(text(mine), /mine/);
    assert.match(text(theirs), /other/);
    await other.close();
  });
  await checks.that('S-SSE-03 the session ends with its stream', async () => {
    await client.close();
    const end = Date.now() + 10_000;
    for (;;) {
      const gone = await fetch(endpoint, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'ping' }),
      });
      if (gone.status === 404) break;
      assert.ok(Date.now() < end, `still ${gone.status}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
}
process.exit(checks.failed ? 1 : 0);
