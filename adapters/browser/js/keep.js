// What was not acknowledged when a page was left, kept for the page that is loaded in its place.
//
// It is in `sessionStorage` only while no page is there: written when a page goes, taken out when the next one comes. So
// a tab that is duplicated finds nothing, and no two pages speak as one client.

/** @import { Data, Saved } from './types.js' */

/** @typedef {() => Storage | undefined} Storing where it is; a page may be forbidden to look */

const key = (/** @type {string} */ url) => `session-resume:${url}`;

/**
 * Keeps as many of the messages as there is room for, the oldest first: all that were written, or none.
 *
 * @param {Storing} storage
 * @param {string} url
 * @param {Saved} saved
 */
export function keep(storage, url, saved) {
  for (let count = saved.messages.length; count && count >= saved.ever - saved.base; count >>= 1) {
    try {
      const messages = saved.messages.slice(0, count).map(encode);
      return storage()?.setItem(key(url), JSON.stringify({ ...saved, messages }));
    } catch {
      // No room, or none at all for this page.
    }
  }
}

/**
 * Takes out what the page before has left.
 *
 * @param {Storing} storage
 * @param {string} url
 * @returns {Saved | null}
 */
export function takeKept(storage, url) {
  try {
    const text = storage()?.getItem(key(url));
    if (!text) return null;
    storage()?.removeItem(key(url));
    const saved = JSON.parse(text);
    return { ...saved, messages: saved.messages.map(decode) };
  } catch {
    // Forbidden, or written by another version.
    return null;
  }
}

/**
 * @param {Data} data
 * @returns {string}
 */
function encode(data) {
  if (typeof data === 'string') return `t${data}`;
  const bytes = new Uint8Array(/** @type {ArrayBuffer} */ (ArrayBuffer.isView(data) ? data.buffer : data));
  return `b${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))}`;
}

/**
 * @param {string} text
 * @returns {Data}
 */
const decode = (text) => (text[0] === 't' ? text.slice(1) : Uint8Array.from(atob(text.slice(1)), (c) => c.charCodeAt(0)).buffer);
