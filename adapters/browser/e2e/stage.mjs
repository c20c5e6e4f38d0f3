// What every scenario needs: a server, a proxy before it, a browser, and pages that count.
//
// `TESTEE=path` runs the scenarios against that binary; without it a mock in this process answers.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startFront } from './front.mjs';
import { startMock } from './mock-server.mjs';
import { startProxy } from './proxy.mjs';

const dist = (name) => readFileSync(new URL(`../dist/${name}`, import.meta.url), 'utf8');

/** `BROWSER=firefox` or `webkit` runs the scenarios there. */
const BROWSER = process.env.BROWSER ?? 'chromium';
const SHOTS = new URL(`./shots/${BROWSER}/`, import.meta.url);
const { launch, elsewhere } = await import(`./driver/${BROWSER}.mjs`);
/** A host of pages that is not loopback to the client, and this machine all the same. */
export { elsewhere };

const PAGE = `<!doctype html><title>e2e</title><meta charset="utf-8">
<h1>A page</h1><input id="field"><a id="away" href="/away">away</a>
<script type="module">
import { ResumableSocket } from '/session-resume.js';
import { notify } from '/session-resume-notify.js';
const seen = (globalThis.seen = { got: [], statuses: [], offers: [], transports: [], sent: 0 });
const Native = WebSocket;
class Watched extends Native {
  constructor(url, protocols) {
    super(url, protocols);
    seen.offers.push(protocols[1]);
  }
}
globalThis.start = (options = {}, banner = {}) => {
  const socket = (globalThis.socket = new ResumableSocket('/live', { ...options, env: { WebSocket: Watched, ...globalThis.env } }));
  socket.onmessage = ({ data }) => seen.got.push(data);
  socket.onstatus = (event) => event.status === 'open' && seen.transports.push(event.transport);
  socket.addEventListener('status', (event) => seen.statuses.push({ at: performance.now(), status: event.status, gap: event.gap, outcome: event.outcome, reason: event.reason, count: event.messages?.length }));
  globalThis.banner = notify(socket, banner);
};
globalThis.talk = (ms, n) => {
  const timer = setInterval(() => (seen.sent < n ? socket.send('echo c' + seen.sent++) : clearInterval(timer)), ms);
};
// Options in the address start at once, also after a reload and in a copied tab.
const given = new URLSearchParams(location.search).get('start');
if (given) start(JSON.parse(given));
</script>`;

const FILES = {
  '/page': { type: 'text/html', body: PAGE },
  '/away': { type: 'text/html', body: '<!doctype html><title>away</title>' },
  '/session-resume.js': { type: 'text/javascript', body: dist('session-resume.js') },
  '/session-resume-notify.js': { type: 'text/javascript', body: dist('session-resume-notify.js') },
};

// Node 20 can spin for ever while it takes itself apart at its end, with all tests told. To leave at once skips that.
process.on('exit', () => process.exit());

let browser;

/** The browser of all scenarios of a file. */
export async function open() {
  browser ??= await launch();
  return browser;
}

export async function close() {
  await browser?.close();
  // All scenarios are over. What is still open does not keep the run from ending.
  setTimeout(() => process.exit(), 5000).unref();
}

/** Scenarios that only one of the two servers can play. */
export const onTestee = { skip: !process.env.TESTEE && 'needs the testee' };
export const onMock = { skip: Boolean(process.env.TESTEE) && 'needs the mock’s hand' };

/** What takes long and is no matter of the browser. */
export const inChromium = { skip: BROWSER !== 'chromium' && !process.env.LONG && 'in Chromium; with LONG=1 here, too' };
/** What a browser, or the driver of it, has not: `{ firefox: 'why not there' }`. */
export const lacks = (why) => ({ skip: why[BROWSER] ?? false });
export const both = (one, other) => ({ skip: one.skip || other.skip });

/**
 * Runs one scenario on a stage of its own. Options: `attach`, `ping`, `host` (of the page's address), and for the
 * testee more `flags`, and `store` to have one.
 */
export async function onStage(options, scenario) {
  const folder = options.store && mkdtempSync(join(tmpdir(), 'session-resume-e2e-'));
  const flags = [...(options.flags ?? []), ...(folder ? ['--store', join(folder, 'sessions.redb')] : [])];
  const start = () => (process.env.TESTEE ? startTestee({ ...options, flags }) : startMock(options));
  let server = await start();
  const front = await startFront(server.port, FILES);
  const proxy = await startProxy(front.port);
  const context = await (await open()).newContext();
  const origin = `http://${options.host ?? '127.0.0.1'}:${proxy.port}`;
  const stage = {
    server, proxy, context, front,
    /** Kills the server at once, and starts it again on what it has left on disk. */
    async restart() {
      await server.stop();
      server = await start();
      front.retarget(server.port);
    },
    /** What the testee answers to a request of this browser, past the proxy: status and body. */
    async ask(path) {
      const cookies = await context.cookies(origin);
      const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join('; ');
      const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers: { cookie } });
      return { status: response.status, body: response.ok ? await response.json() : null };
    },
    /** Opens the page; with options its socket starts by itself. */
    async page(options, banner) {
      const page = await context.newPage();
      page.on('pageerror', (error) => assert.fail(error));
      await page.goto(`${origin}/page`);
      await page.waitForFunction(() => globalThis.start);
      if (options) await page.evaluate(([options, banner]) => start(options, banner), [options, banner]);
      if (options) await until(page, 'open');
      return page;
    },
    origin,
  };
  try {
    await scenario(stage);
    assert.deepEqual(server.faults, [], 'the client broke the protocol');
  } finally {
    await context.close();
    proxy.close();
    front.stop();
    await server.stop();
    if (folder) rmSync(folder, { recursive: true });
  }
}

const startTestee = ({ attach = 'takeover', ping = 1000, flags }) =>
  startServer(process.env.TESTEE, ['--attach', attach, '--ping', String(ping), ...flags]);

/** Starts a server that says `listening on …:port` first. */
export async function startServer(path, args) {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const line = await Promise.race([
    new Promise((resolve) => createInterface(child.stdout).once('line', resolve)),
    ended.then((code) => Promise.reject(new Error(`${path} ended with ${code}`))),
  ]);
  return {
    port: Number(line.split(':').at(-1)),
    faults: [],
    stop() {
      child.kill('SIGKILL');
      return ended;
    },
  };
}

/** Asks again until it is so. */
export async function eventually(what, is) {
  const patience = Date.now() + 30_000;
  while (!(await is())) {
    assert.ok(Date.now() < patience, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits until the socket's lasting status is this. */
export const until = (page, status) => page.waitForFunction((status) => socket.current.status === status, status);

export const statuses = (page) => page.evaluate(() => seen.statuses.map(({ status }) => status));

/** Forgets what was seen, so that the next wait is for something new. */
export const forget = (page) => page.evaluate(() => void (seen.statuses.length = 0));

/** Waits until the page has told of this, and returns it. */
export async function told(page, status) {
  await page.waitForFunction((status) => seen.statuses.some((event) => event.status === status), status, { timeout: 60_000 });
  return page.evaluate((status) => seen.statuses.find((event) => event.status === status), status);
}

/** Starts `n` messages each way, `ms` apart. */
export async function talk(page, ms, n) {
  await page.evaluate(([ms, n]) => (socket.send(`every ${ms} ${n}`), talk(ms, n)), [ms, n]);
}

/** Waits for `up` echoes and `down` messages, and checks that they are exactly those, in order. */
export async function exact(page, up, down = up) {
  const count = (start, n) => page.waitForFunction(
    ([start, n]) => seen.got.filter((data) => data.startsWith(start)).length >= n,
    [start, n],
    { timeout: 60_000 },
  );
  await count('echo:', up);
  await count('e:', down);
  const got = await page.evaluate(() => seen.got);
  assert.deepEqual(got.filter((data) => data.startsWith('echo:')), range(0, up).map((i) => `echo:c${i}`));
  assert.deepEqual(numbers(got), range(0, down));
}

/** Talks while the network breaks at any byte, 20 times at least. Nothing may be missing, and the page is not told so. */
export async function talkThroughBreaks(page, proxy, seed) {
  proxy.chaos(seed, 6000);
  // Large ones, so that most breaks are in the middle of a frame.
  await page.evaluate(() => socket.send('emit 200 700'));
  await talk(page, 5, 400);
  await eventually('20 breaks', () => proxy.breaks >= 20 || page.evaluate(() => seen.got.length >= 1000));
  assert.ok(proxy.breaks >= 20, `only ${proxy.breaks} breaks`);
  proxy.calm();
  await exact(page, 400, 600);
  assert.deepEqual((await statuses(page)).filter((status) => ['gap', 'lost', 'expired', 'new'].includes(status)), ['new']);
}

/** The numbers of the server's messages. */
export const numbers = (got) => got.filter((data) => data.startsWith('e:')).map((data) => Number(data.split(':')[1]));

export const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

/** Keeps a picture of the page, to be looked at. */
export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  // As it is once it has come in.
  await page.screenshot({ animations: 'disabled', path: new URL(`${name}.png`, SHOTS).pathname });
}
