// What a close means. Codes and reasons are read here and nowhere else.

/** @import { Close, CloseKind } from './types.js' */

/** @type {Record<number, CloseKind>} */
const KINDS = {
  1000: 'normal',
  1005: 'no-code',
  // What browsers say where no close frame has come.
  1006: 'lost',
  1009: 'too-big',
  1011: 'internal-error',
  // What plain clients are told for 4112 and 4113.
  1012: 'restarting',
  1013: 'try-again',
  4100: 'superseded',
  4101: 'refused',
  4103: 'protocol-error',
  4104: 'read-only',
  4106: 'reauthenticate',
  4112: 'restarting',
  4113: 'try-again',
};

/** Two kinds have one code: this reason makes the other one, which has its name. @type {{ [kind in CloseKind]?: CloseKind }} */
const REASONS = { normal: 'done', superseded: 'replaced', restarting: 'moved', 'try-again': 'stale' };

/** The codes that the server's application may close with. @param {number} code */
const isApplications = (code) => (code >= 4000 && code < 4100) || (code >= 4200 && code < 5000);

/**
 * Reads a close.
 *
 * @param {number} code
 * @param {string} reason
 * @returns {Close}
 */
export function parseClose(code, reason) {
  const kind = KINDS[code] ?? (isApplications(code) ? 'application' : 'other');
  const other = REASONS[kind];
  return { code, reason, kind: other && reason === other ? other : kind };
}

/** We go. @type {Close} */
export const GOODBYE = { code: 1000, reason: '', kind: 'normal' };
/** There was no code. @type {Close} */
export const NO_CODE = { code: 1005, reason: '', kind: 'no-code' };

/**
 * The connection has gone without a word; `reason` is what we make of it.
 *
 * @param {string} [reason]
 * @returns {Close}
 */
export const lost = (reason = '') => parseClose(1006, reason);

/**
 * A request was answered with a status by which the server says that it does not want this page.
 *
 * @param {number} status
 * @param {string} [reason]
 * @returns {Close}
 */
export const refusal = (status, reason = '') => ({
  code: 4101,
  reason: reason || `It answers with status ${status}.`,
  kind: status === 401 ? 'unauthorized' : 'refused',
});

/**
 * The application's own function for the URL, the headers or the credentials has failed: nothing was sent.
 *
 * @param {any} error
 * @returns {Close}
 */
export const unprepared = (error) => ({ ...lost(`${error?.message ?? error}`), kind: 'unprepared' });

/**
 * The server breaks the protocol.
 *
 * @param {string} reason
 */
export const breach = (reason) => parseClose(4103, reason);

/**
 * The server does not speak the protocol.
 *
 * @param {string} reason
 * @returns {Close}
 */
export const foreign = (reason) => ({ code: 1002, reason, kind: 'foreign' });
