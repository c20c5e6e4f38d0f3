// For pages that have WebSockets everywhere: smaller, and without the ways over HTTP.

export { ResumableSocket } from './socket.js';
