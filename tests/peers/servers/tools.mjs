// A server of the 1.x SDK, on whatever transport it is given: everything that a server of the handshake era may ask of a client.

import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import {
  CallToolRequestSchema,
  ListToolsRequestSchema,
  RootsListChangedNotificationSchema,
  UrlElicitationRequiredError,
} from '@modelcontextprotocol/sdk/types.js';

export const VISIT = 'https://example.com/visit?token=not-for-the-log';
const ELICITATION = 'the-id-of-the-server';

/** One form with every kind of field, each with a default: five ways to write an enumeration (SEP-1330, SEP-1034). */
const FORM = {
  type: 'object',
  properties: {
    name: { type: 'string', title: 'Name', minLength: 2, default: 'Ada' },
    age: { type: 'integer', minimum: 1, default: 36 },
    score: { type: 'number', default: 9.5 },
    agreed: { type: 'boolean', default: true },
    untitledSingle: { type: 'string', enum: ['red', 'green'], default: 'green' },
    titledSingle: { type: 'string', oneOf: [{ const: 'r', title: 'Red' }, { const: 'g', title: 'Green' }], default: 'r' },
    named: { type: 'string', enum: ['r', 'g'], enumNames: ['Red', 'Green'], default: 'g' },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['a', 'b', 'c'] }, minItems: 1, default: ['a', 'c'] },
    titledMulti: {
      type: 'array',
      items: { anyOf: [{ const: 'x', title: 'Ex' }, { const: 'y', title: 'Why' }] },
      default: ['y'],
    },
  },
  required: ['name'],
};

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const said = (value) => ({ content: [{ type: 'text', text: typeof value === 'string' ? value : JSON.stringify(value) }] });

/** `hang_up(requestId)` cuts the connection that carries a request; transports that cannot do without it. */
export function makeServer(hang_up = () => {}) {
  const server = new Server({ name: 'peer-tools', version: '1.0.0' }, { capabilities: { tools: {} } });
  let rootsChanged = 0;
  server.setNotificationHandler(RootsListChangedNotificationSchema, () => {
    rootsChanged += 1;
  });

  const tools = {
    echo: async ({ text }) => said(text),

    count: async ({ steps = 5, delay = 100 }, extra) => {
      for (let step = 1; step <= steps; step += 1) {
        await progress(extra, step, steps);
        // Longer after the last one: these SDKs' clients forget a report that arrives together with the result.
        await pause(step < steps ? delay : 500);
      }
      return said(`counted to ${steps}`);
    },

    // Polling: the server ends its stream in the middle of the call, and answers whoever comes back for it.
    poll: async (_, extra) => {
      await progress(extra, 1, 2);
      extra.closeSSEStream();
      await pause(700);
      await progress(extra, 2, 2);
      return said('worth coming back for');
    },

    // The same, but rudely: the connection is cut, once something went through it.
    drop: async (_, extra) => {
      await progress(extra, 1, 2);
      await pause(200);
      hang_up(extra.requestId);
      await pause(700);
      await progress(extra, 2, 2);
      return said('found again');
    },

    ask: async (_, extra) => {
      const form = { type: 'object', properties: { name: { type: 'string' } } };
      return said(await server.elicitInput({ message: 'Who is there?', requestedSchema: form }, related(extra)));
    },

    ask_everything: async (_, extra) =>
      said(await server.elicitInput({ mode: 'form', message: 'Tell all.', requestedSchema: FORM }, related(extra))),

    // What 2025-06-18 can say in other words.
    ask_titles: async (_, extra) => {
      const { titledSingle, agreed } = FORM.properties;
      const requestedSchema = { type: 'object', properties: { titledSingle, agreed } };
      return said(await server.elicitInput({ message: 'Which?', requestedSchema }, related(extra)));
    },

    // By URL: the user agrees, does something elsewhere, and the server says when that is done.
    visit: async (_, extra) => {
      const question = { mode: 'url', message: 'Go there.', url: VISIT, elicitationId: ELICITATION };
      const answer = await server.elicitInput(question, related(extra));
      const complete = server.createElicitationCompletionNotifier(ELICITATION);
      setTimeout(() => complete().catch(() => {}), 300);
      return said(answer);
    },

    // The other way: the call fails until the user has been there.
    must_visit: async () => {
      const question = { mode: 'url', message: 'First go there.', url: VISIT, elicitationId: `${ELICITATION}-2` };
      throw new UrlElicitationRequiredError([question]);
    },

    // Sampling with tools: two uses at once, their results in one message, a text at the end (SEP-1577).
    think: async (_, extra) => {
      const lookup = { name: 'lookup', description: 'Looks up', inputSchema: { type: 'object', properties: { what: { type: 'string' } } } };
      const question = { role: 'user', content: { type: 'text', text: 'Compare Paris and Rome.' } };
      const base = { maxTokens: 100, tools: [lookup], toolChoice: { mode: 'auto' } };
      const first = await server.createMessage({ ...base, messages: [question] }, related(extra));
      const uses = first.content.filter((block) => block.type === 'tool_use');
      const results = uses.map((use) => ({
        type: 'tool_result',
        toolUseId: use.id,
        content: [{ type: 'text', text: `${use.input.what} is fine` }],
      }));
      const messages = [question, { role: 'assistant', content: first.content }, { role: 'user', content: results }];
      const last = await server.createMessage({ ...base, messages }, related(extra));
      return said({ uses: uses.map((use) => [use.name, use.input.what]), stop: first.stopReason, last: last.content });
    },

    // Two questions in one call, the second from the first answer.
    plan: async (_, extra) => {
      const requestedSchema = { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] };
      const { content } = await server.elicitInput({ message: 'Where to?', requestedSchema }, related(extra));
      const messages = [{ role: 'user', content: { type: 'text', text: `How to get to ${content.place}?` } }];
      const how = await server.createMessage({ messages, maxTokens: 50 }, related(extra));
      return said(`${content.place} ${how.content.text}`);
    },

    // A question that a person may refuse, and that asks for more than it should get.
    peek: async (_, extra) => {
      const messages = [{ role: 'user', content: { type: 'text', text: 'What do the others say?' } }];
      try {
        return said(await server.createMessage({ messages, maxTokens: 10, includeContext: 'allServers' }, related(extra)));
      } catch (error) {
        return said({ code: error.code, message: error.message });
      }
    },

    roots: async (_, extra) => said((await server.listRoots(undefined, related(extra))).roots),

    roots_changed: async () => said(String(rootsChanged)),

    client: async () => said({ ...server.getClientCapabilities() }),
  };

  server.setRequestHandler(ListToolsRequestSchema, async () => ({
    tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: 'object' } })),
  }));
  server.setRequestHandler(CallToolRequestSchema, async (request, extra) => {
    const tool = tools[request.params.name];
    if (!tool) throw new Error(`no tool ${request.params.name}`);
    return tool(request.params.arguments ?? {}, extra);
  });
  return server;
}

/** Questions belong to the stream of the call that causes them. */
function related(extra) {
  return { relatedRequestId: extra.requestId };
}

async function progress(extra, progress, total) {
  const progressToken = extra._meta?.progressToken;
  if (progressToken === undefined) return;
  await extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress, total } });
}
