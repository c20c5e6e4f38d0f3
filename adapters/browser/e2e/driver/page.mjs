// What the scenarios use of Playwright's pages, for browsers that Playwright does not drive, under the same names.
//
// A driver gives a tab: `navigate(url)`, `reload()`, `back()`, `run(expression)`, which waits for a promise of a text,
// `click(at)`, `keys(list)`, `raise()`, `screenshot()` and `close()`.

import { EventEmitter, once } from 'node:events';
import { writeFile } from 'node:fs/promises';

const PATIENCE = 30_000;
const KEYS = { Tab: '\uE004', Enter: '\uE007' };

/** The document was left while a driver asked it something. */
export class Left extends Error {}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again until there is an answer. */
export async function poll(what, ask, timeout = PATIENCE) {
  for (const end = performance.now() + timeout; ; await pause(20)) {
    const answer = await ask().catch((error) => {
      if (!(error instanceof Left)) throw error;
    });
    if (answer) return answer;
    if (performance.now() > end) throw new Error(`for ${timeout} ms in vain: ${what}`);
  }
}

/** An argument as JavaScript has it: JSON has no `undefined`. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal)}]`;
  if (typeof value !== 'object' || value === null) return `${JSON.stringify(value)}`;
  return `{${Object.entries(value).map(([name, value]) => `${JSON.stringify(name)}:${literal(value)}`)}}`;
}

/** In the page: what its scripts have failed with since the last time. */
function errors() {
  const before = globalThis.__errors;
  globalThis.__errors = [];
  if (before) return before;
  addEventListener('error', ({ message }) => __errors.push(message));
  addEventListener('unhandledrejection', ({ reason }) => __errors.push(`${reason}`));
  return [];
}

/** Emits `pageerror` once something is asked of the page, and `dialog` where the driver does. */
export class Page extends EventEmitter {
  #tab;
  #url = 'about:blank';
  keyboard = {
    type: (text) => this.#tab.keys([...text]),
    press: (key) => this.#tab.keys([KEYS[key]]),
  };

  constructor(tab) {
    super();
    this.#tab = tab;
  }

  async goto(url) {
    await this.#tab.navigate(url);
    this.#url = url;
  }

  url() {
    return this.#url;
  }

  reload() {
    return this.#tab.reload();
  }

  async goBack() {
    const before = await this.evaluate(() => location.href);
    await this.#tab.back();
    await this.waitForFunction((before) => location.href !== before, before);
  }

  /** Runs a function in the page; the result is what JSON can tell of it. */
  async evaluate(run, argument) {
    const text = await this.#tab.run(`(async () => {
      const errors = (${errors})();
      const value = await (${run})(${literal(argument)});
      return JSON.stringify([errors, typeof value === 'function' ? null : value ?? null]);
    })()`);
    const [failed, value] = JSON.parse(text);
    for (const message of failed) this.emit('pageerror', new Error(message));
    return value;
  }

  waitForFunction(run, argument, { timeout } = {}) {
    return poll(run, () => this.evaluate(`async (argument) => Boolean(await (${run})(argument))`, argument), timeout);
  }

  async waitForURL(pattern) {
    const end = pattern.replace('**', '');
    await this.waitForFunction((end) => location.href.endsWith(end) && document.readyState === 'complete', end);
  }

  async waitForEvent(type) {
    return (await once(this, type, { signal: AbortSignal.timeout(PATIENCE) }))[0];
  }

  bringToFront() {
    return this.#tab.raise();
  }

  locator(css) {
    return new Locator(this, this.#tab, [{ css }]);
  }

  getByRole(role, options) {
    return new Locator(this, this.#tab, []).getByRole(role, options);
  }

  async screenshot({ path }) {
    // As it is once it has come in, and is drawn.
    await this.evaluate(`async () => {
      for (const element of (${find})([{ css: '*' }])) element.getAnimations().forEach((animation) => animation.finish());
      for (let frames = 0; frames < 2; frames++) await new Promise(requestAnimationFrame);
    }`);
    await writeFile(path, await this.#tab.screenshot());
  }

  close() {
    return this.#tab.close();
  }
}

/** What the steps lead to, as it is when something is done with it. More than one match is an error. */
class Locator {
  #page;
  #tab;
  #steps;

  constructor(page, tab, steps) {
    this.#page = page;
    this.#tab = tab;
    this.#steps = steps;
  }

  #and(step) {
    return new Locator(this.#page, this.#tab, [...this.#steps, step]);
  }

  getByRole(role, { name, exact } = {}) {
    return this.#and({ role, name, exact });
  }

  getByText(text, { exact } = {}) {
    return this.#and({ text, exact });
  }

  filter({ hasText }) {
    return this.#and({ hasText });
  }

  last() {
    return this.#and({ at: -1 });
  }

  async waitFor({ state = 'visible' } = {}) {
    await this.#on((element, state) => state === 'attached' || element.checkVisibility({ visibilityProperty: true }), state);
  }

  async click() {
    let before = null;
    const at = await poll(`still at one place: ${this}`, async () => {
      const at = await this.#on(centre);
      const still = before && before.x === at.x && before.y === at.y;
      before = at;
      return still && at;
    });
    await this.#tab.click(at);
  }

  async focus() {
    await this.#on((element) => (element.focus(), true));
  }

  async textContent() {
    return (await this.#on((element) => [element.textContent]))[0];
  }

  async inputValue() {
    return (await this.#on((element) => [element.value]))[0];
  }

  /** Asks the element until the answer is not false. */
  #on(run, argument) {
    const ask = `([steps, argument]) => {
      const found = (${find})(steps);
      return { count: found.length, answer: found.length === 1 && (${run})(found[0], argument) };
    }`;
    return poll(this, async () => {
      const { count, answer } = await this.#page.evaluate(ask, [this.#steps, argument]);
      if (count > 1) throw new Error(`${count} match: ${this}`);
      return answer;
    });
  }

  toString() {
    return JSON.stringify(this.#steps);
  }
}

/** In the page: the elements that the steps lead to. Shadow trees are looked through, too. */
function find(steps) {
  const ROLES = { button: 'button, [role=button]', alert: '[role=alert]', status: '[role=status]' };
  const tidy = (text) => text.replace(/\s+/g, ' ').trim();
  const within = (root) =>
    [root, root.shadowRoot].flatMap((root) => (root ? [...root.children].flatMap((element) => [element, ...within(element)]) : []));
  const says = (text, exact, of = (element) => element.textContent) => (element) => {
    const all = tidy(of(element));
    return exact ? all === text : all.toLowerCase().includes(text.toLowerCase());
  };
  const nameOf = (element) => element.getAttribute('aria-label') ?? element.textContent;
  let found = [document];
  for (const { css, role, name, text, exact, hasText, at } of steps) {
    const all = [...new Set(found.flatMap(within))];
    if (css) found = all.filter((element) => element.matches(css));
    else if (role) found = all.filter((element) => element.matches(ROLES[role]) && (name === undefined || says(name, exact, nameOf)(element)));
    // The innermost that say so, of the elements that are looked through, too.
    else if (text) found = [...found.filter((element) => element !== document), ...all].filter(says(text, exact)).filter((element, _, list) => !list.some((other) => other !== element && element.contains(other)));
    else if (hasText) found = found.filter(says(hasText));
    else if (at) found = found.slice(at);
  }
  return found;
}

/** In the page: where to click on an element; false while it cannot be clicked. */
function centre(element) {
  element.scrollIntoView({ block: 'nearest' });
  const { x, y, width, height } = element.getBoundingClientRect();
  const at = { x: Math.round(x + width / 2), y: Math.round(y + height / 2) };
  let top = document.elementFromPoint(at.x, at.y);
  for (let inner; (inner = top?.shadowRoot?.elementFromPoint(at.x, at.y)) && inner !== top; ) top = inner;
  return !element.disabled && element.contains(top) && at;
}
