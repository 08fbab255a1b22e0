// The 1.x SDK over streamable HTTP. Facts: `who`, `url`, `tools`.

import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { meet, visitor } from './meet.mjs';
import { Checks, world } from './story.mjs';

const checks = new Checks(world.who);
const client = visitor();
await checks.that('connects', () => client.connect(new StreamableHTTPClientTransport(new URL(world.url))));
if (!checks.failed) await meet(checks, client, world.tools);
await checks.that('closes', () => client.close());
process.exit(checks.failed ? 1 : 0);
