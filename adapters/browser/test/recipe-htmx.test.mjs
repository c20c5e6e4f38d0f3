// The recipe for htmx 4.

import './support/clock.mjs';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sessions } from '../recipes/htmx.js';
import { load, recipe } from './support/htmx.mjs';
import { Stage } from './support/library.mjs';

const htmx = await load(import.meta.url, 'htmx.org/dist/htmx.js', 'htmx.org/dist/ext/hx-ws.js');
recipe(
  'htmx 4',
  htmx,
  (htmx) => sessions(htmx, (url) => url.endsWith('/live')),
  '<div id="live" hx-ws:connect="ws://example.test/live"><ul id="rows"></ul><form hx-ws:send><input name="n"></form></div>',
  1012,
);

test('htmx 4: other sockets of the page stay what they are', (t) => {
  const stage = new Stage(t, () => {});
  const before = globalThis.WebSocket;
  sessions(htmx, (url) => url.endsWith('/live'));
  const socket = new WebSocket('ws://example.test/other', ['session-resume.v1', 'at.probe']);
  assert.deepEqual([socket.constructor, socket.url, socket === stage.links[0]], [before, 'ws://example.test/other', true]);
  assert.equal(WebSocket.OPEN, 1);
});
