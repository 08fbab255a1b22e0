// The 2.x client over stdio, in both eras. Facts: `who`, `era`, `command`, `args`, `tools`.

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { meet } from './meet.mjs';
import { Checks, listed, text, world } from './story.mjs';

const modes = { handshake: 'legacy', stateless: { pin: '2026-07-28' }, auto: 'auto' };
const checks = new Checks(world.who);
const client = new Client(
  { name: 'peer-pipe2', version: '1.0.0' },
  { capabilities: { elicitation: {} }, versionNegotiation: { mode: modes[world.era] } }
);
client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { name: 'Ada of the peers' } }));
const transport = new StdioClientTransport({ command: world.command, args: world.args, stderr: 'ignore' });

await checks.that('S-STDIO-10 connects in its era', async () => {
  await client.connect(transport);
  assert.equal(client.getNegotiatedProtocolVersion(), world.era === 'handshake' ? '2025-11-25' : '2026-07-28');
});
if (!checks.failed) {
  if (world.era === 'handshake') {
    // Options have another place in the 2.x client.
    const same = { listTools: () => client.listTools(), callTool: (call, _, options) => client.callTool(call, options) };
    await meet(checks, same, world.tools);
  } else {
    await checks.that('calls a tool', async () => {
      await listed(client, world.tools.echo);
      const result = await client.callTool({ name: world.tools.echo, arguments: { text: 'grüße 你好' } });
      assert.match(text(result), /grüße 你好/);
    });
  }
}
await checks.that('closes', () => client.close());
process.exit(checks.failed ? 1 : 0);
