// Firefox by WebDriver BiDi, which it speaks by itself: https://www.w3.org/TR/webdriver-bidi/

import { EventEmitter, once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import WebSocket from 'ws';
import { Left, Page } from './page.mjs';
import { folder, start } from './process.mjs';

/** A host that is not this machine by its name: there a browser's word on the network counts. */
export const elsewhere = 'page.test';

/** Settings beside those that Firefox makes by itself when it is driven. */
const PREFS = {
  'network.dns.localDomains': elsewhere,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};
/** What is said of a document that is no more. */
const LEFT = /no such (frame|realm|window)|discarded|AbortError|actor|unloaded|navigat/i;

export async function launch() {
  const profile = folder('firefox');
  writeFileSync(join(profile, 'user.js'), Object.entries(PREFS).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(''));
  const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0', 'about:blank'];
  const firefox = await start(process.env.FIREFOX ?? 'firefox-esr', args, { folder: profile, pattern: /BiDi listening on (\S+)/ });
  const bidi = await connect(`${firefox.match[1]}/session`);
  const { capabilities } = await bidi.send('session.new', { capabilities: { alwaysMatch: { unhandledPromptBehavior: { default: 'ignore' } } } });
  await bidi.send('session.subscribe', { events: ['browsingContext.contextCreated', 'browsingContext.userPromptOpened'] });
  return {
    version: () => capabilities.browserVersion,
    newContext: () => newContext(bidi),
    close: () => firefox.end(),
  };
}

/** Commands and events, one JSON text each. */
async function connect(url) {
  const socket = new WebSocket(url, { maxPayload: 0 });
  await once(socket, 'open');
  const waiting = new Map();
  let last = 0;
  const bidi = Object.assign(new EventEmitter(), {
    send(method, params = {}) {
      return new Promise((resolve, reject) => {
        waiting.set(++last, { resolve, reject });
        socket.send(JSON.stringify({ id: last, method, params }));
      });
    },
  });
  socket.on('message', (data) => {
    const { type, id, method, params, result, error, message } = JSON.parse(data);
    if (type === 'event') return bidi.emit(method, params);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (type === 'success') resolve(result);
    else reject(new (LEFT.test(`${error} ${message}`) ? Left : Error)(`${error}: ${message}`));
  });
  socket.on('close', () => waiting.forEach(({ reject }) => reject(new Error('Firefox has ended'))));
  return bidi;
}

/** Pages with cookies and storage of their own. */
async function newContext(bidi) {
  const { userContext } = await bidi.send('browser.createUserContext');
  const pages = new Map();
  const context = new EventEmitter();
  const adopt = (id) => {
    const page = new Page(tab(bidi, id));
    pages.set(id, page);
    return page;
  };
  const listeners = {
    'browsingContext.contextCreated': ({ context: id, parent, originalOpener, userContext: of }) => {
      if (!parent && originalOpener && of === userContext) context.emit('page', adopt(id));
    },
    'browsingContext.userPromptOpened': ({ context: id }) => {
      const answer = (accept) => bidi.send('browsingContext.handleUserPrompt', { context: id, accept });
      pages.get(id)?.emit('dialog', { accept: () => answer(true), dismiss: () => answer(false) });
    },
  };
  for (const [event, listener] of Object.entries(listeners)) bidi.on(event, listener);
  return Object.assign(context, {
    async newPage() {
      // Of tabs in one window only one is visible.
      const { context: id } = await bidi.send('browsingContext.create', { type: 'window', userContext });
      return adopt(id);
    },
    async cookies() {
      const { cookies } = await bidi.send('storage.getCookies', { partition: { type: 'storageKey', userContext } });
      return cookies.map(({ name, value }) => ({ name, value: value.value }));
    },
    setOffline: (offline) =>
      bidi.send('emulation.setNetworkConditions', { networkConditions: offline ? { type: 'offline' } : null, userContexts: [userContext] }),
    async waitForEvent(type) {
      return (await once(context, type, { signal: AbortSignal.timeout(30_000) }))[0];
    },
    async close() {
      for (const [event, listener] of Object.entries(listeners)) bidi.off(event, listener);
      await bidi.send('browser.removeUserContext', { userContext });
    },
  });
}

const tab = (bidi, context) => ({
  navigate: (url) => bidi.send('browsingContext.navigate', { context, url, wait: 'complete' }),
  reload: () => bidi.send('browsingContext.reload', { context, wait: 'complete' }),
  back: () => bidi.send('browsingContext.traverseHistory', { context, delta: -1 }),
  async run(expression) {
    const { result, exceptionDetails } = await bidi.send('script.evaluate', { expression, awaitPromise: true, userActivation: true, target: { context } });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value;
  },
  click: ({ x, y }) =>
    perform(bidi, context, {
      type: 'pointer',
      id: 'mouse',
      actions: [{ type: 'pointerMove', x, y }, { type: 'pointerDown', button: 0 }, { type: 'pointerUp', button: 0 }],
    }),
  keys: (keys) =>
    perform(bidi, context, { type: 'key', id: 'keys', actions: keys.flatMap((value) => [{ type: 'keyDown', value }, { type: 'keyUp', value }]) }),
  raise: () => bidi.send('browsingContext.activate', { context }),
  async screenshot() {
    return Buffer.from((await bidi.send('browsingContext.captureScreenshot', { context })).data, 'base64');
  },
  close: () => bidi.send('browsingContext.close', { context }),
});

const perform = (bidi, context, source) => bidi.send('input.performActions', { context, actions: [source] });
