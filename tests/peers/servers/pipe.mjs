// The tools over stdio.

import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { makeServer } from './tools.mjs';

await makeServer().connect(new StdioServerTransport());
