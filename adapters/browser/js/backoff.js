// How long to wait before an attempt.

import { BACKOFF_FIRST, BACKOFF_MAX } from './protocol.js';

/** @import { Backoff, Config } from './types.js' */

/**
 * @param {Backoff | undefined} backoff in seconds
 * @returns {Config['backoff']} in milliseconds
 */
export function parseBackoff(backoff = {}) {
  if (Array.isArray(backoff)) return backoff.map((delay) => milliseconds(delay, 'backoff'));
  const { initial = BACKOFF_FIRST / 1000, max = BACKOFF_MAX / 1000, attempts = 30 } = backoff;
  if (!(attempts > 0)) throw new RangeError(`backoff.attempts must be positive (got ${attempts})`);
  return {
    initial: milliseconds(initial, 'backoff.initial'),
    max: milliseconds(max, 'backoff.max'),
    attempts,
  };
}

/**
 * Returns the delay in milliseconds before attempt `attempt` (the first is 1), or null to give up.
 *
 * @param {Config['backoff']} backoff
 * @param {number} attempt
 * @param {number} random
 */
export function delayBefore(backoff, attempt, random) {
  if (Array.isArray(backoff)) return backoff[attempt - 1] ?? null;
  if (attempt > backoff.attempts) return null;
  // The first attempt goes at once: most drops are a single transport's trouble. From then on full
  // jitter, which spreads a crowd better than a jitter around the cap.
  return attempt === 1 ? 0 : random * Math.min(backoff.max, backoff.initial * 2 ** (attempt - 2));
}

/**
 * @param {number} seconds
 * @param {string} name
 */
export function milliseconds(seconds, name) {
  // The longest that browsers' timers can wait.
  if (!(seconds >= 0 && seconds * 1000 < 2 ** 31)) {
    throw new RangeError(`${name} must be seconds from 0 to 2147483 (got ${seconds})`);
  }
  return seconds * 1000;
}
