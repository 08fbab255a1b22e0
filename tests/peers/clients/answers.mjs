// What the clients of step `peers-bridge` answer, and what they check: the facts name the calls, what each must say and
// which questions must have come on the way. Facts: `who`, `url`, `calls: [{tool, arguments, says, asked}]`.

import assert from 'node:assert/strict';
import { Checks, text, world } from './story.mjs';

const asked = [];

/** Capabilities of both clients. */
export const capabilities = { elicitation: { form: {} }, sampling: {}, roots: {} };

/** One answer for every form. */
export function fillIn({ params }) {
  asked.push('elicitation/create');
  const content = {};
  for (const [name, field] of Object.entries(params.requestedSchema.properties)) {
    if (name === 'place') content[name] = 'Rome';
    else if (name === 'name') content[name] = 'Ada of the bridge';
    else if (field.type === 'string' && !field.enum && !field.oneOf && !field.format) content[name] = 'some words';
  }
  return { action: 'accept', content: { ...content, ...(params.requestedSchema.properties.check ? { check: true } : {}) } };
}

/** A model that says what it was asked. */
export function sample({ params }) {
  asked.push('sampling/createMessage');
  const content = params.messages.at(-1).content;
  const words = Array.isArray(content) ? content[0].text : content.text;
  return { role: 'assistant', model: 'none', stopReason: 'endTurn', content: { type: 'text', text: `(${words})` } };
}

/** Where this client works. */
export function roots() {
  asked.push('roots/list');
  return { roots: [{ uri: 'file:///yard', name: 'yard' }] };
}

/** Connects, makes the calls of the facts, all at once a second time, and closes. */
export async function play(client, transport) {
  const checks = new Checks(world.who);
  const call = ({ tool, arguments: given = {} }) => client.callTool({ name: tool, arguments: given });
  await checks.that('connects', () => client.connect(transport));
  for (const one of world.calls) {
    await checks.that(`${one.name} of ${one.tool}`, async () => {
      asked.length = 0;
      assert.match(text(await call(one)), new RegExp(one.says));
      // Servers of the handshake era may ask for roots whenever they like.
      const told = asked.filter((method) => method !== 'roots/list' || one.asked.includes(method));
      assert.deepEqual(told.toSorted(), one.asked.toSorted());
    });
  }
  await checks.that('all of them at once', async () => {
    const results = await Promise.all(world.calls.map(call));
    results.forEach((result, at) => {
      const { tool, says } = world.calls[at];
      assert.ok(new RegExp(says).test(text(result)), `${tool} says ${JSON.stringify(text(result)).slice(0, 300)}`);
    });
  });
  await checks.that('closes', () => client.close());
  process.exit(checks.failed ? 1 : 0);
}
