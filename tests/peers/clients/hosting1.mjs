// The 1.x SDK as a client that hosts tasks: what it is asked becomes a task of its own, which the server looks after.
// Facts: `who`, `url`, `there` (tools to wait for), `calls: [{tool, arguments, says}]`.

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks';
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { Checks, listed, text, world } from './story.mjs';

const ANSWER = { action: 'accept', content: { name: 'Ada of the peers' } };
const SAMPLE = { role: 'assistant', model: 'none', content: { type: 'text', text: 'sampled later' } };
const hosts = { list: {}, cancel: {}, requests: { elicitation: { create: {} }, sampling: { createMessage: {} } } };
const checks = new Checks(world.who);
const client = new Client(
  { name: 'peer-hosting1', version: '1.0.0' },
  { capabilities: { elicitation: { form: {} }, sampling: {}, tasks: hosts }, taskStore: new InMemoryTaskStore() }
);
let begun = 0;

/** Makes a task of a question and answers it a moment later. */
async function host(extra, answer) {
  begun += 1;
  const task = await extra.taskStore.createTask({ ttl: extra.taskRequestedTtl ?? 60_000, pollInterval: 100 });
  setTimeout(() => extra.taskStore.storeTaskResult(task.taskId, 'completed', answer), 400);
  return { task };
}

client.setRequestHandler(ElicitRequestSchema, (request, extra) => (request.params.task ? host(extra, ANSWER) : ANSWER));
client.setRequestHandler(CreateMessageRequestSchema, (request, extra) => (request.params.task ? host(extra, SAMPLE) : SAMPLE));
await checks.that('connects', async () => {
  await client.connect(new StreamableHTTPClientTransport(new URL(world.url)));
  for (const tool of world.there) await listed(client, tool);
});
for (const { tool, arguments: given = {}, says } of world.calls) {
  await checks.that(`S-TASK-24 ${tool} asks and comes back for the answer`, async () => {
    begun = 0;
    assert.match(text(await client.callTool({ name: tool, arguments: given })), new RegExp(says, 's'));
    assert.equal(begun, 1);
  });
}
await checks.that('closes', () => client.close());
process.exit(checks.failed ? 1 : 0);
