// Asks by a plain request whether there is a server.

/** @import { Env } from './types.js' */

/** What of a WebSocket's address a request is for. @param {URL} url */
export const httpUrl = (url) => new URL(url.href.replace(/^ws/, 'http'));

/**
 * Whether an answer of the server can be read.
 *
 * @param {Env} env
 * @param {URL} url for requests
 */
export const isOwn = ({ location }, url) =>
  // Outside of browsers there is no origin, and nothing is hidden.
  !location?.origin || location.origin === url.origin;

/**
 * A request that ends after `timeout`: one without an answer must not hold one of the few connections that a browser has for
 * a host.
 *
 * @param {Env} env
 * @param {URL} url for requests
 * @param {number} timeout in milliseconds
 * @param {RequestInit} init
 * @returns {Promise<Response>}
 */
export async function request(env, url, timeout, init) {
  const controller = new AbortController();
  const timer = env.setTimeout(() => controller.abort(), timeout);
  try {
    return await /** @type {any} */ (env.fetch)(url.href, { cache: 'no-store', signal: controller.signal, ...init });
  } finally {
    env.clearTimeout(timer);
  }
}

/**
 * Whether a server answers within `timeout`, whatever it says. It touches no session.
 *
 * @param {Env} env
 * @param {URL} url for requests
 * @param {number} timeout in milliseconds
 */
export const knock = (env, url, timeout) =>
  // Of another origin nothing can be read, and nothing needs to be.
  request(env, url, timeout, { credentials: 'omit', ...(isOwn(env, url) ? { method: 'OPTIONS', redirect: 'manual' } : { method: 'HEAD', mode: 'no-cors' }) }).then(
    () => true,
    () => false,
  );
