// htmx in a DOM without a browser, loaded by its scripts as a page does.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { runInThisContext } from 'node:vm';
import { Window } from 'happy-dom';
import { gone, Stage, Ticks, troubles, upTo } from './library.mjs';

const dom = new Window({ url: 'http://example.test/app/' });
// What Node does not have, and what it has for itself alone. Events of sockets stay Node's.
for (const name of Object.getOwnPropertyNames(dom)) {
  if (/^[A-Z]/.test(name) && !(name in globalThis) && name !== 'CloseEvent') globalThis[name] = dom[name];
}
globalThis.CustomEvent = dom.CustomEvent;
globalThis.FormData = dom.FormData;
// Of it the document is an instance, in happy-dom.
globalThis.Document = Object.getPrototypeOf(dom.Document);
globalThis.window = dom;
globalThis.document = dom.document;
globalThis.location = dom.location;
globalThis.history = dom.history;
globalThis.getComputedStyle = dom.getComputedStyle.bind(dom);
// With it htmx looks for `hx-on` attributes. The pages here have none.
globalThis.XPathEvaluator = class {
  createExpression = () => ({ evaluate: () => ({ iterateNext: () => null }) });
};

/** Runs scripts that the package `from` can name, of which the first one is htmx. */
export async function load(from, ...scripts) {
  const { resolve } = createRequire(from);
  for (const script of scripts) {
    runInThisContext(await readFile(resolve(script), 'utf8'), { filename: script });
    dom.htmx ??= globalThis.htmx;
  }
  return globalThis.htmx;
}

/** A page of htmx, and a server that appends rows to its list, and keeps what its form has sent. */
class Page {
  said = [];
  ticks = new Ticks(50);
  reloads = 0;
  #n = 0;

  constructor(t, htmx, sessions, html) {
    this.stage = new Stage(t, async (peer) => {
      peer.onmessage = (text) => this.said.push(Number(JSON.parse(text).n));
      for await (const n of this.ticks) peer.send(`<ul hx-swap-oob="beforeend:#rows"><li>${n}</li></ul>`);
    });
    globalThis.location.reload = () => this.reloads++;
    const { mock } = t.mock.method(document, 'addEventListener');
    sessions(htmx);
    const added = mock.calls.map((call) => call.arguments);
    mock.restore();
    t.after(() => added.forEach((args) => document.removeEventListener(...args)));
    document.body.innerHTML = html;
    htmx.process(document.body);
  }

  get rows() {
    return [...document.querySelectorAll('#rows li')].map((row) => Number(row.textContent));
  }

  /** The user sends the next number. */
  submit() {
    document.querySelector('input').value = this.#n++;
    document.querySelector('form').requestSubmit();
  }

  /** The user looks at another tab, or at this one. */
  look(away) {
    Object.defineProperty(document, 'hidden', { value: away, configurable: true });
    document.dispatchEvent(new dom.Event('visibilitychange'));
  }

  get submitted() {
    return upTo(this.#n);
  }
}

/** The tests of both recipes; `code` is one with which a server may end a session for good. */
export function recipe(name, htmx, sessions, html, code) {
  test(`${name}: rows come through cuts, each once, and so does what a form sends`, async (t) => {
    const page = new Page(t, htmx, sessions, html);
    const timer = setInterval(() => page.submit(), 70);
    await troubles(page.stage);
    clearInterval(timer);
    await page.stage.pass();
    const { rows } = page;
    assert.ok(rows.length > 400);
    assert.deepEqual(rows, upTo(rows.length));
    assert.deepEqual(page.said, page.submitted);
    assert.deepEqual([page.ticks.begun, page.reloads], [1, 0]);
  });
  test(`${name}: where the session is gone, the page is loaded again`, async (t) => {
    const page = new Page(t, htmx, sessions, html);
    const { stage } = page;
    await stage.pass(300);
    stage.world.up = false;
    stage.links.at(-1).cut();
    await stage.pass(1000);
    const { length } = page.rows;
    stage.world.server.expire();
    stage.world.up = true;
    await stage.pass(30_000);
    assert.deepEqual(page.rows, upTo(length), 'nothing comes behind the gap');
    assert.deepEqual([page.reloads, stage.world.links.size], [1, 0]);
  });

  test(`${name}: a page that is not looked at for a while keeps its session`, async (t) => {
    const page = new Page(t, htmx, sessions, html);
    await page.stage.pass(300);
    page.look(true);
    await page.stage.pass(1000);
    page.look(false);
    await page.stage.pass(1000);
    assert.deepEqual(page.rows, upTo(page.rows.length));
    assert.ok(page.rows.length > 40);
    assert.deepEqual([page.stage.links.length, page.reloads], [1, 0]);
  });

  test(`${name}: an element that goes closes its socket`, async (t) => {
    const page = new Page(t, htmx, sessions, html);
    await page.stage.pass(300);
    page.stage.peers[0].send('<i hx-swap-oob="delete:#live"></i>');
    await gone(page.stage, [1000, '']);
    assert.deepEqual([document.querySelector('#live'), page.reloads], [null, 0]);
  });

  test(`${name}: the end that the server makes is the end`, async (t) => {
    const page = new Page(t, htmx, sessions, html);
    await page.stage.pass(300);
    page.stage.peers[0].close(code, 'done');
    await gone(page.stage, undefined);
    assert.deepEqual([page.rows, page.reloads], [upTo(page.rows.length), 0]);
  });
}
