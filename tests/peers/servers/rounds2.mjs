// A server of the 2.x SDK that speaks the stateless era alone: a tool of two rounds whose second question follows from the first
// answer, which it keeps in a signed requestState, and one that asks three things at once.
// Usage: node rounds2.mjs [http]; over HTTP it prints `endpoint URL`.

import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { Readable } from 'node:stream';
import { acceptedContent, createMcpHandler, createRequestStateCodec, inputRequired, Server } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';

const codec = createRequestStateCodec({ key: randomBytes(32), bind: (context) => context.mcpReq.method });
const said = (text) => ({ content: [{ type: 'text', text }] });
const form = (message, field) =>
  inputRequired.elicit({
    message,
    requestedSchema: { type: 'object', properties: { [field]: { type: 'string' } }, required: [field] },
  });
const prompt = (text) =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text } }], maxTokens: 50 });

const tools = {
  plan: async (context) => {
    const { inputResponses = {}, requestState } = context.mcpReq;
    const kept = requestState();
    if (kept === undefined) {
      const first = acceptedContent(inputResponses, 'where');
      if (first === undefined) return inputRequired({ inputRequests: { where: form('Where to?', 'place') } });
      const state = await codec.mint({ place: first.place }, context);
      return inputRequired({ inputRequests: { how: prompt(`How to get to ${first.place}?`) }, requestState: state });
    }
    return said(`${kept.place} ${inputResponses.how.content.text}`);
  },

  all: async (context) => {
    const { inputResponses } = context.mcpReq;
    if (inputResponses === undefined) {
      const inputRequests = { where: form('Where to?', 'place'), how: prompt('How?'), from: inputRequired.listRoots() };
      return inputRequired({ inputRequests });
    }
    const { place } = acceptedContent(inputResponses, 'where');
    return said(`${place} ${inputResponses.how.content.text} ${inputResponses.from.roots[0].name}`);
  },

  echo: async (_, { text }) => said(text),
};

function makeServer() {
  const server = new Server(
    { name: 'peer-rounds', version: '1.0.0' },
    { capabilities: { tools: {} }, requestState: { verify: codec.verify } }
  );
  server.setRequestHandler('tools/list', async () => ({
    tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: 'object' } })),
  }));
  server.setRequestHandler('tools/call', async ({ params }, context) => tools[params.name](context, params.arguments ?? {}));
  return server;
}

if (process.argv[2] !== 'http') {
  serveStdio(makeServer, { legacy: 'reject' });
} else {
  const handler = createMcpHandler(makeServer, { legacy: 'reject' });
  const server = http.createServer(async (request, response) => {
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    const body = ['GET', 'HEAD'].includes(request.method) ? undefined : Readable.toWeb(request);
    const answer = await handler.fetch(
      new Request(`http://${request.headers.host}${request.url}`, {
        method: request.method, headers: request.headers, body, duplex: 'half', signal: gone.signal,
      })
    );
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (!answer.body) return response.end();
    Readable.fromWeb(answer.body).on('error', () => response.destroy()).pipe(response);
  });
  server.listen(0, '127.0.0.1', () => console.log(`endpoint http://127.0.0.1:${server.address().port}/mcp`));
}
