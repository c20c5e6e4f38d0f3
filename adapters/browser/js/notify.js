// Tells the user what happens to a ResumableSocket: a small banner that never takes the focus.

/** @import { ResumableSocket } from './socket.js' */
/** @import { Gap, StatusEvent } from './types.js' */

/**
 * Texts, each a template in which `{attempt}`, `{seconds}`, `{count}` and `{reason}` are filled in, or a
 * function of these that returns the text (for plurals). An empty text shows nothing.
 */
export const messages = {
  // While there is no connection: what is the matter, and what is known of the session.
  waiting: 'Connection lost.',
  unreachable: 'Cannot reach the server.',
  restarting: 'The server is restarting.',
  busy: 'The server is busy.',
  offline: 'You are offline. What you do is kept until the network is back.',
  hidden: 'Connection lost.',
  disconnected: 'Connection lost.',
  stalled: 'The network does not answer.',
  goesOn: 'Your session goes on meanwhile.',
  unsent: 'Waiting to send.',
  again: 'Trying again soon.',
  countdown: '{seconds} s',
  connecting: 'Reconnecting now…',
  first: 'Connecting…',
  // Given up, or told to stop.
  failed: 'The server cannot be reached.',
  foreign: 'Not connected: {reason}.',
  refused: 'The server refused the connection.',
  unauthorized: 'You are not signed in.',
  refusedFor: 'The server refused the connection: {reason}',
  superseded: 'This session is in use in another window.',
  done: 'The session has ended.',
  sessionExpired: 'Your session has expired.',
  sessionFailed: 'The session has ended because of an error.',
  // Connected again: why the session is what it is, and what is missing.
  resumed: 'Connected again.',
  back: 'The session is in this window again.',
  restarted: 'The server was restarted.',
  expired: 'Your session has expired.',
  gone: 'The server no longer has your session.',
  restored: 'Your session was restored.',
  reused: 'Connected to the session that runs now.',
  new: 'A new session was started.',
  nothing: 'Nothing is known to be missing.',
  gap: 'Messages missed: {count}.',
  lost: '{count} of your last actions may not have arrived.',
  undone: '{count} of your last actions were undone: the server has gone back to an earlier state.',
  dropped: '{count} of your actions could not be handled, and the server has given them up.',
  tooBig: 'A message was too large and was not sent.',
  // Buttons.
  reconnect: 'Reconnect now',
  takeOver: 'Use it here',
  startAnew: 'Start anew',
  dismiss: 'Dismiss',
};

/** @typedef {{ attempt?: number, seconds?: number, count?: number, reason?: string }} Values */
/** @typedef {Record<keyof typeof messages, string | ((values: Values) => string)>} Messages */
/** @typedef {'waiting' | 'success' | 'warning' | 'notice' | 'prompt'} Kind */
/**
 * A text that is a function says what is true at the time.
 *
 * @typedef {{ text: string | (() => string), kind: Kind, button?: string, until?: number }} View
 */

/**
 * Times in seconds.
 *
 * @typedef {object} NotifyOptions
 * @property {Partial<Messages>} [messages] texts to use instead
 * @property {number} [delay] an outage shorter than this is not shown
 * @property {number} [fade] how long a success stays
 * @property {Element} [parent] where the element goes
 */

const STYLE = `
:host{position:fixed;inset:auto 1rem 1rem;z-index:2147483000;display:flex;justify-content:center;pointer-events:none;font:14px/1.4 system-ui,sans-serif}
[part~=box]{pointer-events:auto;display:flex;align-items:center;gap:.75em;max-width:40em;padding:.6em 1em;border-radius:.5em;background:#333;color:#fff;box-shadow:0 2px 12px #0006}
[part~=success]{background:#14532d}
[part~=warning]{background:#7c2d12}
[part~=prompt]{background:#7f1d1d}
[part~=idle]{padding:0;box-shadow:none;background:none;animation:none!important}
[hidden]{display:none!important}
p{display:inline;margin:0}
[part=countdown]{font-variant-numeric:tabular-nums;white-space:nowrap;opacity:.8}
button{font:inherit;padding:.25em .8em;border:1px solid;border-radius:.4em;background:none;color:inherit;cursor:pointer;white-space:nowrap}
button:hover{background:#fff2}
button:focus-visible{outline:2px solid #fff;outline-offset:2px}
@media (prefers-reduced-motion:no-preference){
[part~=box]{animation:in .2s}
[part~=leaving]{opacity:0;transition:opacity .4s}
@keyframes in{from{opacity:0;transform:translateY(.5em)}}
}
@media print{:host{display:none}}`;

const FADE_OUT = 400;
const Base = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (class {});

/** The banner. `socket` binds it; the page's style sheets reach `::part(box)`, `text`, `countdown`, `button` and `dismiss`. */
export class SessionResumeStatus extends Base {
  /** @type {Messages} */
  messages = messages;
  delay = 1;
  fade = 3;
  /** @type {ResumableSocket | null} */
  #socket = null;
  /** @type {AbortController | null} */
  #listening = null;
  /** A drop that the user has seen, or would have if it had lasted. */
  #outage = false;
  /** When it began. */
  #since = 0;
  /** How long the last one was, in milliseconds. */
  #lastOutage = 0;
  /** The server has said that it restarts. */
  #restarting = false;
  /** There has been a connection. */
  #established = false;
  /** The last hello was the page's first. */
  #first = true;
  /** Another window has the session; and: this one has taken it back. */
  #away = false;
  #back = false;
  #shown = false;
  /** What the last hello brought that was news. It stays until the user takes note, or a later hello brings other news. @type {string[]} */
  #news = [];
  /** What happened to messages since the user last took note: how many, by the name of the text. @type {Map<'gap' | 'lost' | 'undone' | 'dropped' | 'tooBig', number>} */
  #counts = new Map();
  /** Where the user was before they came to a button of ours. @type {EventTarget | null} */
  #before = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticker;

  constructor() {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [sheet];
    this.box = make('div', 'box');
    // Two regions, always there, because one that appears or changes its role is not read out.
    this.polite = make('p', 'text', 'status');
    this.urgent = make('p', 'text', 'alert');
    const texts = document.createElement('div');
    texts.append(this.polite, this.urgent);
    // Not in a live region: a countdown read out every second is noise.
    this.counter = make('span', 'countdown');
    this.counter.setAttribute('aria-hidden', 'true');
    this.button = make('button', 'button');
    this.button.onclick = () => this.#socket?.reconnect();
    this.dismiss = make('button', 'dismiss');
    this.dismiss.textContent = '×';
    this.dismiss.onclick = () => this.#hide();
    this.box.addEventListener('focusin', ({ relatedTarget }) => {
      if (!relatedTarget || !this.box.contains(/** @type {Node} */ (relatedTarget))) this.#before = relatedTarget;
    });
    this.box.append(texts, this.counter, this.button, this.dismiss);
    root.append(this.box);
    this.#hide();
  }

  get socket() {
    return this.#socket;
  }

  set socket(socket) {
    this.#socket = socket;
    this.#listening?.abort();
    this.#hide();
    this.#outage = this.#established = this.#away = this.#restarting = false;
    if (socket && this.isConnected) this.#listen(socket);
  }

  connectedCallback() {
    if (this.#socket) this.#listen(this.#socket);
  }

  disconnectedCallback() {
    this.#listening?.abort();
    this.#hide();
  }

  /** @param {ResumableSocket} socket */
  #listen(socket) {
    this.#listening?.abort();
    this.#listening = new AbortController();
    socket.addEventListener('status', (event) => this.#take(event), { signal: this.#listening.signal });
    this.#established ||= socket.readyState === 1;
    this.#take(/** @type {any} */ (socket.current));
  }

  /**
   * @param {keyof Messages} name
   * @param {Values} [values]
   */
  #say(name, values) {
    return fill(this.messages[name], values);
  }

  /** @param {StatusEvent} event */
  #take(event) {
    switch (event.status) {
      case 'connecting':
        // The first connection is the page's own business.
        if (!this.#established && event.attempt === 1 && !this.#outage) return;
        return this.#wait({ text: () => this.#lacking(this.#established ? 'connecting' : 'first'), kind: 'waiting' });
      case 'waiting': {
        const { delay, until, kind, attempt } = event;
        this.#begin();
        if (kind) this.#restarting = kind === 'restarting';
        /** @type {keyof Messages} */
        let what = until === 'visible' ? 'hidden' : until === 'user' ? 'disconnected' : 'waiting';
        if (!this.#established) what = 'unreachable';
        if (this.#restarting) what = 'restarting';
        else if (kind === 'try-again') what = 'busy';
        if (until === 'user') return this.#show({ text: () => this.#lacking(what, { attempt }), kind: 'prompt', button: this.#say('reconnect') });
        const again = until === 'time' ? this.#say('again', { attempt }) : '';
        const end = delay === null ? undefined : performance.now() + delay * 1000;
        return this.#wait({ text: () => join([this.#lacking(what, { attempt }), again]), kind: 'waiting', button: this.#say('reconnect'), until: end });
      }
      case 'offline':
        return this.#wait({ text: () => this.#lacking('offline'), kind: 'waiting', button: this.#say('reconnect') });
      case 'stalled':
        // It has lasted already.
        this.#begin();
        return this.#show({ text: () => this.#lacking('stalled'), kind: 'waiting', button: this.#say('reconnect') });
      case 'failed': {
        // It was reached, and does not speak the protocol.
        const text = event.kind === 'foreign' ? this.#say('foreign', { reason: event.reason }) : this.#say('failed');
        return this.#show({ text, kind: 'prompt', button: this.#say('reconnect') });
      }
      case 'superseded':
        this.#away = true;
        return this.#show({ text: this.#say('superseded'), kind: 'notice', button: this.#say('takeOver') });
      case 'refused': {
        const { kind, reason } = event;
        // The text says the kind's own name already.
        const bare = !reason || reason === kind;
        const text = kind === 'unauthorized' ? kind : bare ? 'refused' : 'refusedFor';
        return this.#show({ text: this.#say(text, { reason }), kind: 'prompt', button: this.#say('reconnect') });
      }
      case 'done': {
        const { outcome } = event;
        const well = outcome === 'done' || outcome === 'closed';
        const text = this.#say(well ? 'done' : outcome === 'expired' ? 'sessionExpired' : 'sessionFailed');
        const untaken = event.messages.length ? this.#say('lost', { count: event.messages.length }) : '';
        return this.#show({ text: join([text, untaken]), kind: 'prompt', button: this.#say('startAnew') });
      }
      case 'open':
        this.#first = !this.#established;
        this.#established = true;
        this.#back = this.#away;
        this.#away = false;
        return this.#settle(this.#first ? '' : this.#say(this.#back ? 'back' : 'resumed'));
      case 'resumed':
        // On a fresh page this is no news.
        if (this.#restarting && !event.gap && !this.#first) this.#settle(join([this.#say('restarted'), this.#say('nothing')]));
        return;
      case 'new':
      case 'reused':
      case 'restored':
        return this.#greet(event);
      case 'expired':
        // Told with the session that came instead.
        return;
      case 'gap':
        // What another window was shown meanwhile is not missing, nor what a checkpoint makes obsolete; and where a whole
        // stream is gone, it is not known whether anything is missing.
        if (event.gap.to === null || event.gap.reason === 'checkpoint' || this.#back) return;
        return this.#count('gap', event.gap.to - event.gap.from);
      case 'takenback':
        return this.#count('undone', event.count);
      case 'lost':
        if (event.reason === 'too big') return this.#count('tooBig', 1);
        return this.#count(event.reason === 'dropped' ? 'dropped' : 'lost', event.messages.length);
    }
  }

  /**
   * Says why this is another session, or a rebuilt one.
   *
   * @param {{ status: 'new' | 'resumed' | 'reused' | 'restored', gap: Gap | null }} hello
   */
  #greet({ status, gap }) {
    if (this.#first && !gap) return;
    const restarted = this.#restarting || gap?.reason === 'restarted';
    const lifetime = (this.#socket?.lifetime ?? 0) * 1000;
    let why = restarted ? this.#say('restarted') : '';
    if (gap?.reason === 'expired' && !restarted) why = this.#say(this.#lasted() >= lifetime ? 'expired' : 'gone');
    if (status === 'reused' && !why) return this.#settle(this.#say(this.#back ? 'back' : 'reused'));
    this.#news = [why || this.#say('resumed'), this.#say(status)];
    if (gap?.reason === 'restarted') this.#news.push(this.#say('nothing'));
    this.#settle('');
  }

  /**
   * @param {'gap' | 'lost' | 'undone' | 'dropped' | 'tooBig'} name
   * @param {number} count
   */
  #count(name, count) {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + count);
    this.#settle('');
  }

  #begin() {
    if (this.#outage) return;
    this.#outage = true;
    this.#restarting = false;
    this.#since = performance.now();
  }

  /** How long this outage has lasted, in milliseconds. */
  #lasted() {
    return this.#outage ? performance.now() - this.#since : this.#lastOutage;
  }

  /**
   * Says what is the matter, and only what is known of the rest: a session that this page was attached to waits for it,
   * for some time, in a server that has not said that it restarts.
   *
   * @param {keyof Messages} what
   * @param {Values} [values]
   */
  #lacking(what, values) {
    const { lifetime = 0, bufferedAmount = 0 } = this.#socket ?? {};
    const goesOn = this.#established && !this.#restarting && this.#lasted() < lifetime * 1000;
    return join([this.#say(what, values), goesOn ? this.#say('goesOn') : '', bufferedAmount ? this.#say('unsent') : '']);
  }

  /**
   * Shows an outage once it has lasted.
   *
   * @param {View} view
   */
  #wait(view) {
    this.#begin();
    // News stays on the screen through a short outage: a change of the transport is one.
    if (this.#shown && !this.#news.length && !this.#counts.size) return this.#show(view);
    clearTimeout(this.#timer);
    const left = this.#since + this.delay * 1000 - performance.now();
    this.#timer = setTimeout(() => this.#show(view), Math.max(0, left));
  }

  /**
   * Says what the user must know, else `good` if there was something to see, else nothing.
   *
   * @param {string} good
   */
  #settle(good) {
    const text = join([...this.#news, ...Array.from(this.#counts, ([name, count]) => this.#say(name, { count }))]);
    const seen = this.#shown;
    if (this.#outage) this.#lastOutage = this.#lasted();
    this.#outage = false;
    if (text) this.#show({ text, kind: 'warning' });
    else if (!seen || !good) this.#hide();
    else {
      this.#show({ text: good, kind: 'success' });
      this.#timer = setTimeout(() => this.#leave(), this.fade * 1000);
    }
  }

  /** @param {View} view */
  #show({ text, kind, button, until }) {
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    const words = () => (typeof text === 'string' ? text : text());
    if (!words()) return this.#hide();
    this.#shown = true;
    const loud = kind === 'warning' || kind === 'prompt';
    const [region, other] = loud ? [this.urgent, this.polite] : [this.polite, this.urgent];
    write(other, '');
    this.box.part.value = `box ${kind}`;
    this.#offer(button, kind === 'warning');
    this.dismiss.setAttribute('aria-label', this.#say('dismiss'));
    this.counter.hidden = until === undefined;
    const tick = () => {
      write(region, words());
      if (until === undefined) return;
      const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      write(this.counter, this.#say('countdown', { seconds }));
    };
    tick();
    if (until !== undefined || typeof text !== 'string') this.#ticker = setInterval(tick, 250);
  }

  /**
   * Shows these buttons. One that goes under the user's hands hands the focus back.
   *
   * @param {string | undefined} button
   * @param {boolean} dismiss
   */
  #offer(button, dismiss) {
    const focused = this.shadowRoot?.activeElement;
    this.button.hidden = !button;
    write(this.button, button ?? '');
    this.dismiss.hidden = !dismiss;
    if (focused instanceof HTMLElement && focused.hidden && this.#before instanceof HTMLElement) this.#before.focus();
  }

  #leave() {
    this.box.part.add('leaving');
    this.#timer = setTimeout(() => this.#hide(), FADE_OUT);
  }

  #hide() {
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    this.#shown = false;
    this.#news = [];
    this.#counts.clear();
    this.box.part.value = 'box idle';
    this.#offer(undefined, false);
    this.counter.hidden = true;
    write(this.polite, '');
    write(this.urgent, '');
  }
}

globalThis.customElements?.get('session-resume-status') ??
  globalThis.customElements?.define('session-resume-status', SessionResumeStatus);

/**
 * Puts a banner into the page that tells what happens to `socket`. Removing the returned element ends it.
 *
 * @param {ResumableSocket} socket
 * @param {NotifyOptions} [options]
 */
export function notify(socket, { messages: own, delay, fade, parent = document.body } = {}) {
  const element = /** @type {SessionResumeStatus} */ (document.createElement('session-resume-status'));
  element.messages = { ...messages, ...own };
  element.delay = delay ?? element.delay;
  element.fade = fade ?? element.fade;
  element.socket = socket;
  parent.append(element);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} part
 * @param {string} [role]
 */
function make(tag, part, role) {
  const element = document.createElement(tag);
  element.part.value = part;
  if (role) element.setAttribute('role', role);
  return element;
}

/**
 * Leaves an unchanged text alone, so that it is not read out again.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @param {string | ((values: Values) => string)} text
 * @param {Values} [values]
 */
function fill(text, values = {}) {
  if (typeof text === 'function') return text(values);
  return text.replace(/\{(\w+)\}/g, (all, name) => String(values[/** @type {keyof Values} */ (name)] ?? all)).trim();
}

/** @param {string[]} texts */
const join = (texts) => texts.filter(Boolean).join(' ');
