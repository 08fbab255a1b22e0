// A server of the 1.x SDK with its experimental tasks of 2025-11-25: jobs under the names of the gateway's own demo server.
// Over HTTP with sessions (prints `endpoint URL`), or over stdio: `tasks1.mjs pipe`.

import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { InMemoryTaskMessageQueue, InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { ElicitResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const said = (text, isError = false) => ({ content: [{ type: 'text', text }], isError });
const FORM = { type: 'object', properties: { name: { type: 'string', title: 'Name' } }, required: ['name'] };

/** What the jobs do; each gives its result. `ask` puts the form to the client. */
const JOBS = {
  job: async ({ seconds }) => {
    await pause(seconds);
    return said(`Done after ${seconds} s`);
  },
  job_failing: async ({ seconds }) => {
    await pause(seconds);
    return said('the job failed', true);
  },
  job_asking: async ({ seconds }, ask) => {
    await pause(seconds);
    const { action, content } = await ask();
    await pause(seconds);
    return said(`Done for ${content?.name ?? action}`);
  },
};

/** A server for one session. Tasks outlive requests, so each session keeps its own. */
function makeServer() {
  const server = new McpServer(
    { name: 'peer-tasks', version: '1.0.0' },
    {
      capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
      taskStore: new InMemoryTaskStore(),
      taskMessageQueue: new InMemoryTaskMessageQueue(),
    }
  );
  for (const [name, work] of Object.entries(JOBS)) {
    const about = { description: 'Works', inputSchema: { seconds: z.number().default(0.2) } };
    server.experimental.tasks.registerToolTask(name, { ...about, execution: { taskSupport: 'optional' } }, handler(work));
  }
  return server;
}

function handler(work) {
  return {
    createTask: async (given, { taskStore, taskRequestedTtl, sendRequest }) => {
      const task = await taskStore.createTask({ ttl: taskRequestedTtl ?? 60_000, pollInterval: 200 });
      run(work, given, task.taskId, taskStore, sendRequest).catch((error) => console.error(`${task.taskId}: ${error}`));
      return { task };
    },
    getTask: (_, { taskId, taskStore }) => taskStore.getTask(taskId),
    getTaskResult: (_, { taskId, taskStore }) => taskStore.getTaskResult(taskId),
  };
}

async function run(work, given, taskId, store, sendRequest) {
  const ask = async () => {
    await store.updateTaskStatus(taskId, 'input_required');
    const params = { mode: 'form', message: 'What is your name?', requestedSchema: FORM };
    // The store's queue gives it to whoever asks for the result.
    const answer = await sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema, { relatedTask: { taskId } });
    await store.updateTaskStatus(taskId, 'working');
    return answer;
  };
  const result = await work(given, ask);
  await store.storeTaskResult(taskId, result.isError ? 'failed' : 'completed', result);
}

async function serveHttp() {
  const sessions = new Map();
  const open = async () => {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await makeServer().connect(transport);
    return transport;
  };
  const server = http.createServer(async (request, response) => {
    const id = request.headers['mcp-session-id'];
    if (id !== undefined && !sessions.has(id)) return response.writeHead(404).end();
    return (id === undefined ? await open() : sessions.get(id)).handleRequest(request, response);
  });
  server.listen(0, '127.0.0.1', () => console.log(`endpoint http://127.0.0.1:${server.address().port}/mcp`));
}

await (process.argv[2] === 'pipe' ? makeServer().connect(new StdioServerTransport()) : serveHttp());
