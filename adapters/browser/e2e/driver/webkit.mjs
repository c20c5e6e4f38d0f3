// WebKitGTK's MiniBrowser by WebDriver: https://www.w3.org/TR/webdriver2/
//
// A session of WebDriver is one browser, and looks at one of its windows at a time.

import { Left, Page, poll } from './page.mjs';
import { freePort, start } from './process.mjs';

/** Not loopback to the client, and this machine all the same. */
export const elsewhere = '[::ffff:127.0.0.1]';

const CAPABILITIES = {
  unhandledPromptBehavior: 'ignore',
  timeouts: { script: 120_000 },
  'webkitgtk:browserOptions': { args: ['--automation', '--javascript-can-open-windows-automatically=true'] },
};
/** What is said of a document that is no more. */
const LEFT = /no such (window|frame)|navigat/i;

export async function launch() {
  // MiniBrowser has no headless mode. Xvfb finds a number that is free and says it.
  const screen = await start('Xvfb', ['-displayfd', '3', '-screen', '0', '1280x1024x24', '-nolisten', 'tcp'], { pattern: /^(\d+)$/, stream: 3 });
  const port = await freePort();
  const driver = await start('WebKitWebDriver', ['-p', `${port}`], { env: { DISPLAY: `:${screen.match[1]}`, GDK_BACKEND: 'x11' } });
  const send = (method, path, body) => command(port, method, path, body);
  await poll('the driver answers', () => send('GET', '/status').catch(() => null));
  let version;
  return {
    version: () => version,
    async newContext() {
      const { sessionId, capabilities } = await send('POST', '/session', { capabilities: { alwaysMatch: CAPABILITIES } });
      version = capabilities.browserVersion;
      return newContext((method, path, body) => send(method, `/session/${sessionId}${path}`, body));
    },
    async close() {
      await driver.end();
      await screen.end();
    },
  };
}

async function command(port, method, path, body) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
  const { value } = await response.json();
  if (response.ok) return value;
  const { error, message } = value;
  throw new (LEFT.test(`${error} ${message}`) ? Left : Error)(`${error}: ${message}`);
}

async function newContext(send) {
  const pages = new Map();
  const [first] = await send('GET', '/window/handles');
  let free = first;
  let current = first;
  // One command after the other: each is about the window that is current.
  let line = Promise.resolve();
  const inLine = (run) => {
    const done = line.then(run);
    line = done.catch(() => {});
    return done;
  };
  const sendTo = (handle) => (method, path, body) =>
    inLine(async () => {
      if (current !== handle) await send('POST', '/window', { handle });
      current = handle;
      return send(method, path, body);
    });
  const adopt = (handle) => {
    const page = new Page(tab(sendTo(handle)));
    pages.set(handle, page);
    return page;
  };
  return {
    async newPage() {
      const handle = free ?? (await inLine(() => send('POST', '/window/new', { type: 'window' }))).handle;
      free = null;
      return adopt(handle);
    },
    cookies: () => inLine(() => send('GET', '/cookie')),
    /** The driver cannot take the network away: the page is told so. What else there is of it, the test's proxy takes. */
    async setOffline(offline) {
      for (const page of pages.values()) {
        await page.evaluate((offline) => {
          Object.defineProperty(navigator, 'onLine', { configurable: true, get: () => !offline });
          dispatchEvent(new Event(offline ? 'offline' : 'online'));
        }, offline);
      }
    },
    /** Waits for a window that a page opens. */
    async waitForEvent() {
      const handle = await poll('a new window', async () => {
        const handles = await inLine(() => send('GET', '/window/handles'));
        return handles.find((handle) => !pages.has(handle));
      });
      return adopt(handle);
    },
    close: () => inLine(() => send('DELETE', '')),
  };
}

const tab = (send) => ({
  navigate: (url) => send('POST', '/url', { url }),
  reload: () => send('POST', '/refresh', {}),
  back: () => send('POST', '/back', {}),
  run: (expression) => send('POST', '/execute/sync', { script: `return ${expression}`, args: [] }),
  click: ({ x, y }) =>
    perform(send, {
      type: 'pointer',
      id: 'mouse',
      parameters: { pointerType: 'mouse' },
      actions: [{ type: 'pointerMove', x, y }, { type: 'pointerDown', button: 0 }, { type: 'pointerUp', button: 0 }],
    }),
  keys: (keys) => perform(send, { type: 'key', id: 'keys', actions: keys.flatMap((value) => [{ type: 'keyDown', value }, { type: 'keyUp', value }]) }),
  // Each has a window of its own.
  async raise() {},
  async screenshot() {
    return Buffer.from(await send('GET', '/screenshot'), 'base64');
  },
  close: () => send('DELETE', '/window'),
});

const perform = (send, source) => send('POST', '/actions', { actions: [source] });
