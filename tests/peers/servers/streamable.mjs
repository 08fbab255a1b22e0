// The tools over streamable HTTP, with sessions, an event store, and a short time after which a client shall come back.
// Prints `endpoint URL`, and `resumed` for each request that takes up a stream.

import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { makeServer } from './tools.mjs';

const sessions = new Map();

/** Keeps every event of a session in its order; an id is its number and its stream. */
class Store {
  events = [];

  async storeEvent(streamId, message) {
    const id = `${this.events.length}/${streamId}`;
    this.events.push({ id, streamId, message });
    return id;
  }

  async getStreamIdForEventId(id) {
    return this.events.find((event) => event.id === id)?.streamId;
  }

  async replayEventsAfter(id, { send }) {
    const from = this.events.findIndex((event) => event.id === id);
    const { streamId } = this.events[from];
    for (const event of this.events.slice(from + 1)) {
      // A priming event is kept for its id alone.
      if (event.streamId === streamId && event.message.jsonrpc) await send(event.id, event.message);
    }
    return streamId;
  }
}

async function session() {
  const carriers = new Map();
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Store(),
    retryInterval: 200,
    onsessioninitialized: (id) => sessions.set(id, { transport, carriers }),
    onsessionclosed: (id) => sessions.delete(id),
  });
  await makeServer((requestId) => carriers.get(requestId)?.destroy()).connect(transport);
  return { transport, carriers };
}

const server = http.createServer(async (request, response) => {
  const id = request.headers['mcp-session-id'];
  if (id !== undefined && !sessions.has(id)) return response.writeHead(404).end();
  const { transport, carriers } = id === undefined ? await session() : sessions.get(id);
  if (request.headers['last-event-id'] !== undefined) console.log('resumed');
  if (request.method !== 'POST') return transport.handleRequest(request, response);
  const parts = [];
  for await (const part of request) parts.push(part);
  let body;
  try {
    body = JSON.parse(Buffer.concat(parts).toString());
  } catch {
    return response.writeHead(400).end();
  }
  if (body.id !== undefined) carriers.set(body.id, request.socket);
  return transport.handleRequest(request, response, body);
});
server.listen(0, '127.0.0.1', () => console.log(`endpoint http://127.0.0.1:${server.address().port}/mcp`));
