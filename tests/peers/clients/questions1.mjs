// The 1.x SDK answers everything that a server of 2025-11-25 may ask. Facts: `who`, `url`, `prefix`, `title`, `visit`, `roots`.

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CreateMessageRequestSchema,
  ElicitationCompleteNotificationSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  McpError,
  UrlElicitationRequiredError,
} from '@modelcontextprotocol/sdk/types.js';
import { Checks, listed, text, until, world } from './story.mjs';

const checks = new Checks(world.who);
const capabilities = {
  sampling: { tools: {} },
  elicitation: { form: { applyDefaults: true }, url: {} },
  roots: { listChanged: true },
};
const client = new Client({ name: 'peer-answers', version: '1.0.0' }, { capabilities });
const call = async (name, args = {}) => client.callTool({ name: `${world.prefix}${name}`, arguments: args });
const sampled = [];
const asked = [];
const completed = [];
let roots = [{ uri: 'file:///yard/one', name: 'one' }];
let refuses = false;
let answer = { action: 'accept', content: {} };

client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => {
  sampled.push(params);
  if (refuses) throw new McpError(-1, 'User rejected sampling request');
  if (params.messages.length === 1) {
    const use = (id, what) => ({ type: 'tool_use', id, name: 'lookup', input: { what } });
    return { role: 'assistant', model: 'none', stopReason: 'toolUse', content: [use('u1', 'Paris'), use('u2', 'Rome')] };
  }
  return { role: 'assistant', model: 'none', stopReason: 'endTurn', content: { type: 'text', text: 'both are fine' } };
});
client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
  asked.push(params);
  return structuredClone(answer);
});
client.setRequestHandler(ListRootsRequestSchema, async () => ({ roots }));
client.setNotificationHandler(ElicitationCompleteNotificationSchema, ({ params }) => completed.push(params.elicitationId));

await checks.that('connects', () => client.connect(new StreamableHTTPClientTransport(new URL(world.url))));

await checks.that('S-LIFE-07 S-ELIC-01 the server sees what this client can do', async () => {
  await listed(client, `${world.prefix}client`);
  const seen = JSON.parse(text(await call('client')));
  assert.ok(seen.sampling?.tools, JSON.stringify(seen));
  assert.ok(seen.elicitation?.form && seen.elicitation?.url, JSON.stringify(seen));
  assert.equal(Boolean(seen.roots), world.roots, JSON.stringify(seen));
});

await checks.that('S-SAMP-02 S-SAMP-04 S-SAMP-05 samples with two tool uses at once', async () => {
  const thought = JSON.parse(text(await call('think')));
  assert.deepEqual(thought.uses, [['lookup', 'Paris'], ['lookup', 'Rome']]);
  assert.equal(thought.stop, 'toolUse');
  assert.equal(thought.last.text ?? thought.last[0]?.text, 'both are fine');
  assert.equal(sampled[0].tools[0].name, 'lookup');
  assert.deepEqual(sampled[0].toolChoice, { mode: 'auto' });
  const [, uses, results] = sampled[1].messages;
  assert.deepEqual(uses.content.map((block) => [block.type, block.id]), [['tool_use', 'u1'], ['tool_use', 'u2']]);
  assert.deepEqual(results.content.map((block) => [block.type, block.toolUseId]), [['tool_result', 'u1'], ['tool_result', 'u2']]);
});

await checks.that('S-SAMP-06 a refusal reaches the server as it is', async () => {
  refuses = true;
  const told = JSON.parse(text(await call('peek')));
  refuses = false;
  assert.equal(told.code, -1);
  assert.match(told.message, /User rejected sampling request/);
});

await checks.that('S-SAMP-03 nothing of other servers is asked for', () => {
  assert.ok([undefined, 'none'].includes(sampled.at(-1).includeContext), sampled.at(-1).includeContext);
});

await checks.that('S-ELIC-03 S-ELIC-04 a form of every kind arrives whole, its defaults go back', async () => {
  answer = { action: 'accept', content: { name: 'Grace' } };
  const told = JSON.parse(text(await call('ask_everything')));
  const { properties, required } = asked.at(-1).requestedSchema;
  assert.deepEqual(required, ['name']);
  assert.deepEqual(properties.untitledSingle, { type: 'string', enum: ['red', 'green'], default: 'green' });
  assert.deepEqual(properties.titledSingle.oneOf, [{ const: 'r', title: 'Red' }, { const: 'g', title: 'Green' }]);
  assert.deepEqual(properties.named.enumNames, ['Red', 'Green']);
  assert.deepEqual(properties.untitledMulti, {
    type: 'array', items: { type: 'string', enum: ['a', 'b', 'c'] }, minItems: 1, default: ['a', 'c'],
  });
  assert.deepEqual(properties.titledMulti.items.anyOf[1], { const: 'y', title: 'Why' });
  assert.equal(properties.name.minLength, 2);
  assert.deepEqual(told, {
    action: 'accept',
    content: {
      name: 'Grace', age: 36, score: 9.5, agreed: true, untitledSingle: 'green', titledSingle: 'r', named: 'g',
      untitledMulti: ['a', 'c'], titledMulti: ['y'],
    },
  });
});

await checks.that('S-ELIC-10 who asks is marked', async () => {
  const { message, _meta } = asked.at(-1);
  assert.equal(_meta?.['switchyard/server'], world.title);
  assert.equal(message, `[${world.title}] Tell all.`);
  assert.equal(sampled[0]._meta?.['switchyard/server'], world.title);
});

await checks.that('S-ELIC-06 a form is declined and cancelled', async () => {
  for (const action of ['decline', 'cancel']) {
    answer = { action };
    assert.equal(JSON.parse(text(await call('ask'))).action, action);
  }
});

await checks.that('S-ELIC-07 a URL is shown as it is, under an id of the gateway', async () => {
  answer = { action: 'accept' };
  assert.equal(JSON.parse(text(await call('visit'))).action, 'accept');
  const { mode, url, elicitationId } = asked.at(-1);
  assert.deepEqual([mode, url], ['url', world.visit]);
  assert.ok(elicitationId && !elicitationId.includes('the-id-of-the-server'), elicitationId);
});

await checks.that('S-ELIC-08 its completion comes after the call, under the same id', async () => {
  await until('notifications/elicitation/complete', () => completed.length > 0);
  assert.deepEqual(completed, [asked.at(-1).elicitationId]);
});

await checks.that('S-ELIC-09 the error that names URLs keeps them and gets an id of the gateway', async () => {
  await assert.rejects(call('must_visit'), (error) => {
    assert.ok(error instanceof UrlElicitationRequiredError, String(error));
    const [one] = error.elicitations;
    assert.deepEqual([error.elicitations.length, one.mode, one.url], [1, 'url', world.visit]);
    assert.ok(!one.elicitationId.includes('the-id-of-the-server'), one.elicitationId);
    return true;
  });
});

if (world.roots) {
  await checks.that('S-ROOT-01 the server gets the roots of this client', async () => {
    assert.deepEqual(JSON.parse(text(await call('roots'))), roots);
  });
  await checks.that('S-ROOT-02 and hears when they change', async () => {
    roots = [{ uri: 'file:///yard/two', name: 'two' }];
    await client.sendRootsListChanged();
    const end = Date.now() + 10_000;
    while (text(await call('roots_changed')) !== '1') {
      assert.ok(Date.now() < end, 'no notification came');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.deepEqual(JSON.parse(text(await call('roots'))), roots);
  });
} else {
  await checks.that('S-ROOT-05 a remote server learns of no roots', async () => {
    await assert.rejects(async () => {
      const result = await call('roots');
      if (result.isError) throw new Error(text(result));
    });
  });
}

await checks.that('closes', () => client.close());
process.exit(checks.failed ? 1 : 0);
