// The wire format of session-resume.v1: offers, control frames, and the escape of U+0001.

import { AT, PROTOCOL, VERSION } from './protocol.js';

/** @import { Control, Cursor, Data, Frame, Gap, StateCopy } from './types.js' */

const MARK = '\u0001';
const NAME = /^[\w-]{1,64}$/;
const STATUSES = ['new', 'resumed', 'reused', 'restored'];
const REASONS = ['overflow', 'expired', 'restarted', 'evicted', 'checkpoint'];
const OUTCOMES = ['done', 'failed', 'panicked', 'expired', 'overflow', 'closed'];

/**
 * Returns the subprotocols to offer: fresh without a cursor, else to continue at `position`.
 *
 * @param {string} client
 * @param {Cursor | null} cursor
 * @param {number} position
 */
export function offer(client, cursor, position) {
  const words = cursor ? ['', cursor.session, cursor.epoch, position, cursor.attachment] : [];
  return [PROTOCOL, `${AT}${client}${words.join('.')}`];
}

/** @param {object} control */
export const encodeControl = (control) => MARK + JSON.stringify(control);

/**
 * Returns the frame that offers a page's own copy of the state.
 *
 * @param {StateCopy} copy
 */
export function encodeState({ iteration, updated = Date.now(), value }) {
  if (!isCount(iteration) || !isCount(updated) || JSON.stringify(value) === undefined) {
    throw new TypeError('not a copy of a state');
  }
  return encodeControl({ state: { iteration, updated, value } });
}

/**
 * @param {Data} data
 * @returns {Data}
 */
export const encodeData = (data) =>
  typeof data === 'string' && data.startsWith(MARK) ? MARK + data : data;

/**
 * Reads a frame from the server. Members that are not known are left alone; known ones of the
 * wrong type are an error, because guessing would lose or double messages.
 *
 * @param {Data} frame
 * @returns {Frame}
 */
export function decode(frame) {
  if (typeof frame !== 'string' || !frame.startsWith(MARK)) return { data: frame };
  if (frame[1] === MARK) return { data: frame.slice(1) };
  if (frame[1] !== '{') return { error: 'bad control frame' };
  let control;
  try {
    control = JSON.parse(frame.slice(1));
  } catch {
    return { error: 'bad JSON' };
  }
  for (const name in shape) {
    if (Object.hasOwn(control, name) && !shape[name](control[name])) {
      return { error: `bad ${name}` };
    }
  }
  return { control };
}

/** @param {unknown} value */
const isCount = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;

/** @param {unknown} value */
const isName = (value) => typeof value === 'string' && NAME.test(value);

/** @param {any} value */
const isObject = (value) => typeof value === 'object' && value !== null;

/** @param {any} gap */
const isGap = (gap) =>
  isObject(gap) && isCount(gap.from) && (gap.to === null || isCount(gap.to)) && REASONS.includes(gap.reason);

/** @type {Record<string, (value: any) => boolean>} */
const shape = {
  hello: (h) =>
    isObject(h) &&
    h.v === VERSION &&
    isName(h.session) &&
    isName(h.epoch) &&
    STATUSES.includes(h.status) &&
    [h.attachment, h.from, h.heartbeat_ms, h.lifetime_ms].every(isCount) &&
    (h.received === null || isCount(h.received)) &&
    (h.gap === null || isGap(h.gap)) &&
    isObject(h.window) &&
    isCount(h.window.messages) &&
    isCount(h.window.bytes) &&
    (!Object.hasOwn(h, 'limit') || isCount(h.limit)) &&
    (!Object.hasOwn(h, 'ping') || typeof h.ping === 'boolean'),
  ack: isCount,
  hb: isCount,
  gap: (gap) => isGap(gap) && gap.to !== null && gap.to >= gap.from,
  skip: isCount,
  dropped: isCount,
  retry: isCount,
  done: (done) => isObject(done) && OUTCOMES.includes(done.status) && isCount(done.received),
};
