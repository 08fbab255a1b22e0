// The 1.x SDK with its experimental tasks of 2025-11-25: begins tasks, follows them, is asked, cancels, lists.
// Facts: `who`, `url`, `prefix`, `without` (checks that the server behind cannot play, by their first word).

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { Checks, listed, text, world } from './story.mjs';

const RELATED = 'io.modelcontextprotocol/related-task';
const checks = new Checks(world.who);
const asked = [];
const client = new Client({ name: 'peer-tasks1', version: '1.0.0' }, { capabilities: { elicitation: { form: {} } } });
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  asked.push(request.params);
  return { action: 'accept', content: { name: 'Ada of the peers' } };
});
const tasks = client.experimental.tasks;
const tool = (name) => `${world.prefix}${name}`;

/** A check, unless the server behind has nothing to be checked with. */
function that(name, body) {
  return world.without?.includes(name.split(' ')[0]) ? undefined : checks.that(name, body);
}

/** Begins a task and follows it to its end: its id, the states seen, and the result or error. */
async function follow(name, given = {}) {
  const seen = { states: [] };
  const stream = tasks.callToolStream({ name: tool(name), arguments: given }, CallToolResultSchema, { task: { ttl: 60_000 } });
  for await (const message of stream) {
    if (message.type === 'taskCreated') Object.assign(seen, { id: message.task.taskId, begun: message.task });
    else if (message.type === 'taskStatus') seen.states.push(message.task.status);
    else Object.assign(seen, { result: message.result, error: message.error });
  }
  return seen;
}

/** Begins a task and leaves it alone. */
async function begin(name, given) {
  const stream = tasks.callToolStream({ name: tool(name), arguments: given }, CallToolResultSchema, { task: {} });
  const { value } = await stream.next();
  assert.equal(value.type, 'taskCreated', value.error?.message);
  return value.task.taskId;
}

const code = (expected) => (error) => error.code === expected || assert.fail(`${error.code} ${error.message}`);

await checks.that('connects', async () => {
  await client.connect(new StreamableHTTPClientTransport(new URL(world.url)));
  assert.ok(client.getServerCapabilities().tasks?.requests?.tools?.call, 'tasks are not declared');
});
await checks.that('S-TASK-03 learns from the list which tools can be tasks', async () => {
  await listed(client, tool('job'));
  const found = (await client.listTools()).tools.find((one) => one.name === tool('job'));
  assert.match(found.execution?.taskSupport, /^(optional|required)$/);
});
await that('S-TASK-11 begins a task, polls it and gets its result', async () => {
  const { id, begun, states, result, error } = await follow('job', { seconds: 0.7 });
  assert.equal(error, undefined);
  assert.equal(begun.status, 'working');
  assert.ok(states.includes('working') && states.at(-1) === 'completed', states.join(' '));
  assert.match(text(result), /^Done/);
  assert.deepEqual(result._meta[RELATED], { taskId: id });
  assert.match(text(await tasks.getTaskResult(id, CallToolResultSchema)), /^Done/);
});
await that('list S-TASK-13 finds its tasks in the list', async () => {
  const id = await begin('job', { seconds: 0.2 });
  const { tasks: found } = await tasks.listTasks();
  assert.ok(found.some((task) => task.taskId === id), `not among ${found.length}`);
});
await that('fail S-TASK-12 sees a tool that fails', async () => {
  const { id, states } = await follow('job_failing', { seconds: 0 });
  // This client does not fetch the result of a task that failed.
  const result = await tasks.getTaskResult(id, CallToolResultSchema);
  assert.equal(states.at(-1), 'failed');
  assert.equal(result.isError, true);
  assert.match(text(result), /the job failed/);
});
await that('crash S-TASK-12 sees a request that fails', async () => {
  const { id, states } = await follow('job_crashing', { seconds: 0 });
  assert.equal(states.at(-1), 'failed');
  await assert.rejects(tasks.getTaskResult(id, CallToolResultSchema), code(-32603));
});
await that('ask S-TASK-17 answers what a task asks', async () => {
  asked.length = 0;
  const { id, states, result, error } = await follow('job_asking', { seconds: 0.3 });
  assert.equal(error, undefined);
  // Where the question came on another stream of the session, it is answered before anyone looks.
  assert.match(states.at(-1), /^(input_required|completed)$/);
  assert.equal(asked.length, 1);
  assert.deepEqual(asked[0]._meta?.[RELATED], { taskId: id });
  assert.equal(text(result), 'Done for Ada of the peers');
});
await that('cancel S-TASK-15 cancels a task', async () => {
  const id = await begin('job', { seconds: 600 });
  assert.equal((await tasks.cancelTask(id)).status, 'cancelled');
  assert.equal((await tasks.getTask(id)).status, 'cancelled');
  await assert.rejects(tasks.cancelTask(id), code(-32602));
});
await that('S-TASK-10 an unknown task is an error', async () => {
  await assert.rejects(tasks.getTask('no-such-task'), code(-32602));
});
await that('plain S-TASK-03 calls the same tool without a task', async () => {
  assert.match(text(await client.callTool({ name: tool('job'), arguments: { seconds: 0 } })), /^Done/);
});
await checks.that('closes', () => client.close());
process.exit(checks.failed ? 1 : 0);
