// The 1.x SDK over stdio: it starts the gateway itself. Facts: `who`, `command`, `args`, `tools`.

import assert from 'node:assert/strict';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { meet, visitor } from './meet.mjs';
import { Checks, until, world } from './story.mjs';

const checks = new Checks(world.who);
const client = visitor();
const transport = new StdioClientTransport({ command: world.command, args: world.args, stderr: 'ignore' });
const errors = [];
client.onerror = (error) => errors.push(String(error));

await checks.that('S-STDIO-10 connects with the handshake', () => client.connect(transport));
if (!checks.failed) {
  const { pid } = transport;
  await meet(checks, client, world.tools);
  await checks.that('pings', async () => assert.deepEqual(await client.ping(), {}));
  await checks.that('S-STDIO-01 nothing but messages came on stdout', async () => assert.deepEqual(errors, []));
  await checks.that('the gateway ends with its input', async () => {
    await client.close();
    await until('the end of the process', () => {
      try {
        return !process.kill(pid, 0);
      } catch {
        return true;
      }
    });
  });
}
process.exit(checks.failed ? 1 : 0);
