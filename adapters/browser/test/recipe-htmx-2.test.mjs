// The recipe for htmx 2, which its extension brings with it.

import './support/clock.mjs';
import { createRequire } from 'node:module';
import { sessions } from '../recipes/htmx-2.js';
import { load, recipe } from './support/htmx.mjs';

const extension = createRequire(import.meta.url).resolve('htmx-ext-ws');
const htmx = await load(extension, 'htmx.org/dist/htmx.js', 'htmx-ext-ws/ws.js');
recipe(
  'htmx 2',
  htmx,
  sessions,
  '<div id="live" hx-ext="ws" ws-connect="ws://example.test/live"><ul id="rows"></ul><form ws-send><input name="n"></form></div>',
  1000,
);
