// The socket with all its ways: a WebSocket, and where that is blocked, a stream or polls over HTTP.

import { ResumableSocket } from './session.js';
import { ResumableSocket as Socket } from './socket.js';
import { waysOf } from './ways.js';

Socket.ways = waysOf;
export { ResumableSocket };
/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').Status} Status */
/** @typedef {import('./types.js').StatusEvent} StatusEvent */
/** @typedef {import('./types.js').SessionEvent} SessionEvent */
/** @typedef {import('./types.js').Gap} Gap */
/** @typedef {import('./types.js').StateCopy} StateCopy */
/** @typedef {import('./types.js').CloseKind} CloseKind */
