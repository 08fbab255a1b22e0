// The tools over stdio. With NOISE in the environment it talks besides: to stderr, and a line to stdout that is no message.

import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { makeServer } from './tools.mjs';

if (process.env.NOISE) {
  console.error(process.env.NOISE);
  console.log(`[info] ${process.env.NOISE}`);
}
await makeServer().connect(new StdioServerTransport());
