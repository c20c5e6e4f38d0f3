export { ResumableSocket } from './socket.js';
/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').Status} Status */
/** @typedef {import('./types.js').StatusEvent} StatusEvent */
/** @typedef {import('./types.js').Gap} Gap */
