// The 2.x client in the stateless era answers whatever servers of either era ask. Facts: see answers.mjs.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { capabilities, fillIn, play, roots, sample } from './answers.mjs';
import { world } from './story.mjs';

const client = new Client(
  { name: 'peer-bridge2', version: '1.0.0' },
  { capabilities, versionNegotiation: { mode: { pin: '2026-07-28' } } }
);
client.setRequestHandler('elicitation/create', async (request) => fillIn(request));
client.setRequestHandler('sampling/createMessage', async (request) => sample(request));
client.setRequestHandler('roots/list', async () => roots());
await play(client, new StreamableHTTPClientTransport(new URL(world.url)));
