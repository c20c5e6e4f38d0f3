// What a browser makes of the arguments that a WebSocket is given, as WebIDL and the WebSockets Standard say.

import { OURS } from './protocol.js';

/** @import { Data } from './types.js' */

/** @param {string} text */
export const syntaxError = (text) => new DOMException(text, 'SyntaxError');

/**
 * Reads an URL of a WebSocket; `http` and `https` stand for `ws` and `wss`.
 *
 * @param {unknown} given
 * @param {string | undefined} base
 */
export function readUrl(given, base) {
  const text = `${given}`;
  let url;
  try {
    url = new URL(text, base);
  } catch {
    throw syntaxError(`not a URL: ${text}`);
  }
  url.protocol = url.protocol.replace(/^http/, 'ws');
  if (!/^wss?:$/.test(url.protocol) || url.hash || text.includes('#')) {
    throw syntaxError(`not the URL of a WebSocket: ${text}`);
  }
  return url;
}

/** A token of RFC 9110. */
const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;

/**
 * Reads subprotocols: nothing, a list of them, or one.
 *
 * @param {any} given
 * @returns {string[]}
 */
export function readProtocols(given) {
  if (given === undefined) return [];
  const list = isList(given) ? Array.from(given, (name) => `${name}`) : [`${given}`];
  for (const name of list) {
    if (!TOKEN.test(name) || OURS.test(name)) throw syntaxError(`not a subprotocol of the application's: ${name}`);
  }
  if (new Set(list).size < list.length) throw syntaxError(`a subprotocol twice: ${list}`);
  return list;
}

/**
 * Whether this is the second argument of a WebSocket, not the options of a socket of ours.
 *
 * @param {unknown} given
 * @returns {given is string | string[] | undefined}
 */
export const isProtocols = (given) => !(typeof given === 'object' && given !== null) || isList(given);

/** @param {any} given */
const isList = (given) => typeof given === 'object' && given !== null && given[Symbol.iterator] !== undefined;

/** @param {unknown} type */
export const isBinaryType = (type) => type === 'blob' || type === 'arraybuffer';

/**
 * Reads the arguments of `close`. Without a code the other end is told none.
 *
 * @param {unknown} code
 * @param {unknown} reason
 * @returns {{ code: number | null, reason: string }}
 */
export function readClose(code, reason) {
  let number = null;
  if (code !== undefined) {
    // [Clamp] unsigned short: to the nearest integer, of two to the even one.
    number = Math.min(Math.max(Number(code) || 0, 0), 65535);
    const floor = Math.floor(number);
    number = number - floor === 0.5 ? floor + (floor % 2) : Math.round(number);
  }
  const text = reason === undefined ? '' : wellFormed(`${reason}`);
  if (number !== null && number !== 1000 && !(number >= 3000 && number < 5000)) {
    throw new DOMException('the code must be 1000 or from 3000 to 4999', 'InvalidAccessError');
  }
  if (byteLength(text) > 123) throw syntaxError('the reason is longer than 123 bytes');
  return { code: reason === undefined ? number : (number ?? 1000), reason: text };
}

/**
 * Returns what can be sent and cannot change any more while it waits.
 *
 * The type of a value is asked of its internal slots, not of its prototypes: an iframe has prototypes of its own.
 *
 * @param {any} data
 * @returns {Data}
 */
export function own(data) {
  if (typeof data === 'object' && data !== null) {
    if (ArrayBuffer.isView(data)) {
      const { buffer } = data;
      if (bufferLength(buffer) === null) throw new TypeError('a view of shared memory cannot be sent');
      return copy(buffer, data.byteOffset, data.byteLength);
    }
    const length = bufferLength(data);
    if (length !== null) return copy(data, 0, length).buffer;
    if (isBlob(data)) return data;
  }
  // Throws where there is no such text: of a symbol, of an object without a prototype.
  return wellFormed(`${data}`);
}

/**
 * @param {any} buffer
 * @param {number} offset
 * @param {number} length
 */
const copy = (buffer, offset, length) =>
  // One that was given away to another thread has no bytes any more.
  length ? new Uint8Array(/** @type {ArrayBuffer} */ (buffer), offset, length).slice() : new Uint8Array();

/**
 * @param {object} of
 * @param {string} name
 * @returns {(this: unknown) => any}
 */
const getter = (of, name) => /** @type {any} */ (Object.getOwnPropertyDescriptor(of, name)?.get);

const lengthOfBuffer = getter(ArrayBuffer.prototype, 'byteLength');
const sizeOfBlob = getter(Blob.prototype, 'size');

/**
 * Returns the length of an `ArrayBuffer` of any realm, null for other values.
 *
 * @param {any} value
 * @returns {number | null}
 */
function bufferLength(value) {
  try {
    return lengthOfBuffer.call(value);
  } catch {
    return null;
  }
}

/** @param {any} value */
function isBlob(value) {
  try {
    sizeOfBlob.call(value);
    return true;
  } catch {
    return false;
  }
}

/**
 * Half a surrogate pair has no form in UTF-8.
 *
 * @param {string} text
 * @returns {string}
 */
const wellFormed = (text) => /** @type {any} */ (text).toWellFormed?.() ?? text;

/**
 * Returns the length of a message in bytes, as it counts against the window.
 *
 * @param {Data} data
 */
export function byteLength(data) {
  if (typeof data !== 'string') return 'size' in data ? data.size : data.byteLength;
  let bytes = data.length;
  for (let i = 0; i < data.length; i++) {
    const unit = data.charCodeAt(i);
    // A surrogate pair is two units and four bytes; a lone surrogate becomes U+FFFD, three bytes.
    if (unit > 0x7ff) {
      const pair = unit >= 0xd800 && unit < 0xdc00 && (data.charCodeAt(i + 1) & 0xfc00) === 0xdc00;
      bytes += 2;
      if (pair) i++;
    } else if (unit > 0x7f) bytes++;
  }
  return bytes;
}

/** Event handlers as attributes: `onopen` and its like. */
export class Handlers {
  /** @type {Map<string, { value: any, run: (event: Event) => void }>} */
  #all = new Map();
  #target;

  /** @param {EventTarget} target */
  constructor(target) {
    this.#target = target;
  }

  /** @param {string} type */
  get(type) {
    return this.#all.get(type)?.value ?? null;
  }

  /**
   * One that replaces another keeps its place among the listeners; null gives the place up.
   *
   * @param {string} type
   * @param {any} value
   */
  set(type, value) {
    const old = this.#all.get(type);
    if ((typeof value !== 'object' || value === null) && typeof value !== 'function') {
      if (old) this.#target.removeEventListener(type, old.run);
      this.#all.delete(type);
    } else if (old) {
      old.value = value;
    } else {
      /** @type {{ value: any, run: (event: Event) => void }} */
      const handler = {
        value,
        run: (event) => {
          // An object that is not a function is kept, and not called.
          if (typeof handler.value === 'function' && handler.value.call(this.#target, event) === false) event.preventDefault();
        },
      };
      this.#all.set(type, handler);
      this.#target.addEventListener(type, handler.run);
    }
  }
}

/**
 * Makes a class look like an interface: what it has is enumerable, its constants are on both sides and read only.
 *
 * @param {Function} type
 * @param {string} name a bundle gives the class another
 * @param {Record<string, number>} constants
 */
export function asInterface(type, name, constants) {
  const { prototype } = type;
  for (const member of Object.getOwnPropertyNames(prototype)) {
    if (member !== 'constructor') Object.defineProperty(prototype, member, { enumerable: true });
  }
  for (const constant in constants) {
    for (const on of [type, prototype]) {
      Object.defineProperty(on, constant, { value: constants[constant], enumerable: true, writable: false, configurable: false });
    }
  }
  Object.defineProperty(prototype, Symbol.toStringTag, { value: name, configurable: true });
}

/**
 * Returns a `close` event; where there is no such class, an event with its members.
 *
 * @param {{ code: number, reason: string, wasClean: boolean }} init
 */
export const closeEvent = (init) =>
  typeof CloseEvent === 'function' ? new CloseEvent('close', init) : Object.assign(new Event('close'), init);
