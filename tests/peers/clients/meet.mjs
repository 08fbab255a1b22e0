// The short story that every 1.x client of the older transports tells: list, call, follow progress, be asked, fail.

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { listed, text, until } from './story.mjs';

/** A client that answers forms with one name. */
export function visitor(capabilities = { elicitation: {} }) {
  const client = new Client({ name: 'peer-visitor', version: '1.0.0' }, { capabilities });
  if (capabilities.elicitation) {
    client.setRequestHandler(ElicitRequestSchema, async () => ({ action: 'accept', content: { name: 'Ada of the peers' } }));
  }
  return client;
}

/** `tools` names the tools to use, as this gateway calls them: `{ echo, count, ask }`, the last two if they are to be tried. */
export async function meet(checks, client, tools) {
  await checks.that('lists the tools', async () => {
    const names = await listed(client, tools.echo);
    for (const name of Object.values(tools)) assert.ok(names.includes(name), `${name} is not among ${names.join(' ')}`);
  });
  await checks.that('calls a tool', async () => {
    const result = await client.callTool({ name: tools.echo, arguments: { text: 'grüße 你好' } });
    assert.match(text(result), /grüße 你好/);
  });
  if (tools.count) {
    await checks.that('follows progress', async () => {
      const seen = [];
      const onprogress = ({ progress, total }) => seen.push([progress, total]);
      const call = { name: tools.count, arguments: { steps: 4, delay: 50 } };
      const result = await client.callTool(call, undefined, { onprogress });
      assert.equal(text(result), 'counted to 4');
      await until('four reports', () => seen.length === 4);
      assert.deepEqual(seen, [[1, 4], [2, 4], [3, 4], [4, 4]]);
    });
  }
  if (tools.ask) {
    await checks.that('answers a form of a server', async () => {
      assert.match(text(await client.callTool({ name: tools.ask, arguments: {} })), /Ada of the peers/);
    });
  }
  await checks.that('an unknown tool is an error', async () => {
    await assert.rejects(client.callTool({ name: 'no-such-tool', arguments: {} }), (error) => error.code === -32602);
  });
}
