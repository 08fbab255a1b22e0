// The 2.x client, in the era it is told: the handshake with a session, or stateless requests.
// Usage: node client2.mjs WORLD.json handshake|stateless|auto

import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Checks, story, text, world } from './story.mjs';

const modes = { handshake: 'legacy', stateless: { pin: '2026-07-28' }, auto: 'auto' };
const era = process.argv[3];
const checks = new Checks(`client 2.x ${era}`);
const client = new Client(
  { name: 'peer-client2', version: '1.0.0' },
  { capabilities: { elicitation: {} }, versionNegotiation: { mode: modes[era] } }
);
client.setRequestHandler('elicitation/create', async () => ({
  action: 'accept',
  content: { name: 'Ada of the peers', check: true, email: 'ada@example.com', integer: 7 },
}));
const transport = new StreamableHTTPClientTransport(new URL(world.url));
const call = (name, args, options) => client.callTool({ name, arguments: args }, options);

await checks.that('connects', async () => {
  await client.connect(transport);
  assert.equal(client.getNegotiatedProtocolVersion(), era === 'handshake' ? '2025-11-25' : '2026-07-28');
  assert.equal(Boolean(transport.sessionId), era === 'handshake');
});

// Which era `auto` finds is its whole question; the rest of the story is told once per era.
if (era === 'auto') {
  await checks.that('calls a tool', async () => {
    assert.equal(text(await call('everything__echo', { message: 'found' })), 'Echo: found');
  });
} else {
  await story(checks, { client, call });
}
if (era === 'handshake') {
  await checks.that('answers elicitation for a server', async () => {
    assert.match(text(await call('everything__trigger-elicitation-request', {})), /Ada of the peers/);
  });
}
await checks.that('closes', () => client.close());
process.exit(checks.failed ? 1 : 0);
