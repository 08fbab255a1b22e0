// The 1.x SDK: the handshake era, with everything a session allows: sampling, elicitation, roots, log level, subscriptions.
// Usage: node sdk1.mjs WORLD.json

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { Checks, story, text, until, world } from './story.mjs';

const checks = new Checks('sdk 1.x');
const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
const client = new Client({ name: 'peer-sdk1', version: '1.0.0' }, { capabilities });
const transport = new StreamableHTTPClientTransport(new URL(world.url));
const logged = [];
const updated = [];
const asked = [];

client.setRequestHandler(CreateMessageRequestSchema, async (request) => {
  asked.push(request.params.messages[0].content.text);
  return { role: 'assistant', model: 'none', stopReason: 'endTurn', content: { type: 'text', text: 'sampled by the peer' } };
});
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  assert.equal(request.params.requestedSchema.properties.name.type, 'string');
  return { action: 'accept', content: { name: 'Ada of the peers', check: true, email: 'ada@example.com', integer: 7 } };
});
client.setRequestHandler(ListRootsRequestSchema, async () => ({
  roots: [{ uri: `file://${world.folder}`, name: 'the yard' }],
}));
client.setNotificationHandler(LoggingMessageNotificationSchema, (notification) => logged.push(notification.params));
client.setNotificationHandler(ResourceUpdatedNotificationSchema, (notification) => updated.push(notification.params.uri));

await checks.that('connects with the handshake', async () => {
  await client.connect(transport);
  assert.equal(transport.protocolVersion, '2025-11-25');
  assert.ok(transport.sessionId, 'no session id');
  const offered = client.getServerCapabilities();
  for (const name of ['tools', 'prompts', 'resources', 'completions', 'logging']) assert.ok(offered[name], `no ${name}`);
});

// The 1.x `callTool` takes the result's schema before the options.
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
await story(checks, { client, call });

await checks.that('pings', async () => assert.deepEqual(await client.ping(), {}));

await checks.that('answers sampling for a server', async () => {
  const result = await call('everything__trigger-sampling-request', { prompt: 'what is a yard?', maxTokens: 20 });
  assert.match(text(result), /sampled by the peer/);
  assert.match(asked[0], /what is a yard\?/);
});

await checks.that('answers elicitation for a server', async () => {
  assert.match(text(await call('everything__trigger-elicitation-request', {})), /Ada of the peers/);
});

await checks.that('gives its roots to a server', async () => {
  // The server asks for roots a moment after the handshake, and keeps what it was told.
  assert.match(text(await call('everything__get-roots-list', {})), /the yard/);
});

await checks.that('gets log messages at its level', async () => {
  await client.setLoggingLevel('info');
  logged.length = 0;
  await client.subscribeResource({ uri: world.resource });
  await until('a log message about the subscription', () => logged.some((one) => String(one.data).includes(world.resource)));
  assert.ok(logged.every((one) => one.level !== 'debug'));
});

await checks.that('hears of updates of a subscribed resource', async () => {
  await call('everything__toggle-subscriber-updates', {});
  await until('resources/updated', () => updated.includes(world.resource));
  await call('everything__toggle-subscriber-updates', {});
  await client.unsubscribeResource({ uri: world.resource });
});

await checks.that('ends its session', async () => {
  const ended = transport.sessionId;
  await transport.terminateSession();
  await client.close();
  const again = await fetch(world.url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-session-id': ended,
      'mcp-protocol-version': '2025-11-25',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
  });
  await again.arrayBuffer();
  assert.equal(again.status, 404);
});

// What a failed check left open must not keep the process.
process.exit(checks.failed ? 1 : 0);
