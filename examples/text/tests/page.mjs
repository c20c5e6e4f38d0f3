// A page without a browser: y-websocket as it is published, on a socket of session-resume. The standard input says what it does,
// one command a line:
//   write N   writes N items of its own, one a millisecond
//   show      prints what it has, and what it was told
// It prints `has N` each time that it has more items.

import { createInterface } from 'node:readline';

const [url, name, browser] = process.argv.slice(2);
const library = (path) => import(new URL(`node_modules/${path}`, `file://${browser}/`));
const { default: Socket } = await library('ws/wrapper.mjs');
const { decodeUpdate, Doc } = await library('yjs/dist/yjs.mjs');
const { createDecoder, readVarUint, readVarUint8Array } = await library('lib0/decoding.js');
const { provide } = await import(new URL('recipes/y-websocket.js', `file://${browser}/`));

let cookie;
// Browsers keep cookies.
globalThis.WebSocket = class extends Socket {
  constructor(url, protocols) {
    super(url, protocols, { headers: cookie ? { cookie } : {} });
    this.on('upgrade', ({ headers }) => (cookie = headers['set-cookie']?.[0].split(';')[0] ?? cookie));
  }
};
// Without it the socket has no other ways.
globalThis.fetch = undefined;

const say = (text) => process.stdout.write(`${text}\n`);
const doc = new Doc();
const items = doc.getArray('items');
const provider = provide(url, 'text', doc, { disableBc: true });
/** What the provider has told its application. */
const told = [];
provider.on('status', ({ status }) => told.push(status));
provider.on('sync', (synced) => told.push(synced));
/** How often each item was sent to this page, in updates. */
const came = {};
provider.ws.addEventListener('message', ({ data }) => {
  const decoder = createDecoder(new Uint8Array(data));
  // An update, or all that was lacking.
  if (readVarUint(decoder) !== 0 || readVarUint(decoder) === 0) return;
  for (const { id, length } of decodeUpdate(readVarUint8Array(decoder)).structs) {
    for (let i = 0; i < length; i++) {
      const item = `${id.client}:${id.clock + i}`;
      came[item] = (came[item] ?? 0) + 1;
    }
  }
});
// What is written before that, the protocol itself tells twice.
await new Promise((resolve) => provider.once('sync', resolve));
items.observe(() => say(`has ${items.length}`));

let written = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const [command, count] = line.split(' ');
  if (command === 'show') say(`shows ${JSON.stringify({ items: items.toArray(), told, came: Object.values(came) })}`);
  for (let i = 0; i < count; i++) {
    items.push([`${name}${written++}`]);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
process.exit();
