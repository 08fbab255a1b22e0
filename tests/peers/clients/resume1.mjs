// The 1.x SDK resumes by itself: its connections are cut in the middle of a call by the relay it goes through.
// Facts: `who`, `url`, `count` (the name of the tool that counts).

import assert from 'node:assert/strict';
import net from 'node:net';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Checks, listed, text, world } from './story.mjs';

const checks = new Checks(world.who);
const open = new Set();

/** Bytes there and back; `cut()` ends every connection at once, later ones live. */
const relay = net.createServer((near) => {
  const far = net.connect(Number(new URL(world.url).port), '127.0.0.1');
  const end = () => {
    open.delete(end);
    near.destroy();
    far.destroy();
  };
  open.add(end);
  for (const socket of [near, far]) socket.on('error', end).on('close', end);
  near.pipe(far).pipe(near);
});
const cut = () => [...open].forEach((end) => end());
await new Promise((resolve) => relay.listen(0, '127.0.0.1', resolve));

const requests = [];
const url = new URL(world.url);
url.port = relay.address().port;
const transport = new StreamableHTTPClientTransport(url, {
  reconnectionOptions: { initialReconnectionDelay: 100, maxReconnectionDelay: 500, reconnectionDelayGrowFactor: 1.5, maxRetries: 8 },
  fetch: (address, options) => {
    requests.push([options?.method ?? 'GET', new Headers(options?.headers).get('last-event-id')]);
    return fetch(address, options);
  },
});
const client = new Client({ name: 'peer-resumes', version: '1.0.0' }, { capabilities: {} });

await checks.that('connects', async () => {
  await client.connect(transport);
  await listed(client, world.count);
});

async function counting(steps, cutAt) {
  const seen = [];
  const onprogress = ({ progress }) => {
    seen.push(progress);
    if (cutAt.includes(progress)) cut();
  };
  const call = { name: world.count, arguments: { steps, delay: 150 } };
  const result = await client.callTool(call, undefined, { onprogress, timeout: 25_000 });
  return [text(result), seen];
}

await checks.that('S-RESUM-02 a call whose stream is cut gives every report once, and its result', async () => {
  requests.length = 0;
  const [said, seen] = await counting(10, [3]);
  assert.equal(said, 'counted to 10');
  assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const resumed = requests.filter(([method, id]) => method === 'GET' && id);
  assert.ok(resumed.length > 0, `nothing was resumed: ${JSON.stringify(requests)}`);
  assert.equal(requests.filter(([method]) => method === 'POST').length, 1, 'the call was sent twice');
});

await checks.that('S-RESUM-02 and again, cut twice', async () => {
  const [said, seen] = await counting(10, [2, 6]);
  assert.equal(said, 'counted to 10');
  assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

await checks.that('the session goes on', async () => {
  assert.deepEqual(await client.ping(), {});
  await transport.terminateSession();
});
await client.close();
cut();
relay.close();
process.exit(checks.failed ? 1 : 0);
