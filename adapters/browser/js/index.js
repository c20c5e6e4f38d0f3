export { ResumableSocket } from './socket.js';
/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').Status} Status */
/** @typedef {import('./types.js').StatusEvent} StatusEvent */
/** @typedef {import('./types.js').Gap} Gap */
/** @typedef {import('./types.js').StateCopy} StateCopy */
/** @typedef {import('./types.js').CloseKind} CloseKind */
