// The tools over HTTP+SSE of 2024-11-05, with the 1.x SDK's own transport; nothing else is served, so that a streamable client
// finds a 404. Prints `endpoint URL`.

import http from 'node:http';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { makeServer } from './tools.mjs';

const transports = new Map();

const server = http.createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (request.method === 'GET' && url.pathname === '/sse') {
    const transport = new SSEServerTransport('/messages', response);
    transports.set(transport.sessionId, transport);
    response.on('close', () => transports.delete(transport.sessionId));
    await makeServer().connect(transport);
  } else if (request.method === 'POST' && url.pathname === '/messages' && transports.has(url.searchParams.get('sessionId'))) {
    await transports.get(url.searchParams.get('sessionId')).handlePostMessage(request, response);
  } else {
    response.writeHead(404).end();
  }
});
server.listen(0, '127.0.0.1', () => console.log(`endpoint http://127.0.0.1:${server.address().port}/sse`));
