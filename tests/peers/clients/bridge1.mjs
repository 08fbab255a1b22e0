// The 1.x SDK, a client of the handshake era, answers whatever servers of the other era ask. Facts: see answers.mjs.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { capabilities, fillIn, play, roots, sample } from './answers.mjs';
import { world } from './story.mjs';

const client = new Client({ name: 'peer-bridge1', version: '1.0.0' }, { capabilities });
client.setRequestHandler(ElicitRequestSchema, async (request) => fillIn(request));
client.setRequestHandler(CreateMessageRequestSchema, async (request) => sample(request));
client.setRequestHandler(ListRootsRequestSchema, async () => roots());
await play(client, new StreamableHTTPClientTransport(new URL(world.url)));
