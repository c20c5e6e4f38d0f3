// The names and numbers of session-resume.v1 that both ends must agree on. tests/vectors/wire.json lists them for
// every language, and a test compares.

export const VERSION = 1;
export const PROTOCOL = `session-resume.v${VERSION}`;
/** What the subprotocol begins with that says who asks, and for what. */
export const AT = 'at.';
/** Subprotocols that are not the application's. */
export const OURS = /^(session-resume|at)\./;

/** We acknowledge after this many messages at the latest, */
export const ACK_MESSAGES = 64;
/** after this many bytes, */
export const ACK_BYTES = 65536;
/** and this many milliseconds after a message. */
export const ACK_AFTER = 250;
/** A server that says nothing for this many heartbeats is dead. */
export const SILENT_HEARTBEATS = 2.5;
/** What was sent and is not acknowledged for this long makes us ask whether the server is there. Milliseconds. */
export const ASK_AFTER = 3000;
/** While it is still not acknowledged, we ask again this long after an answer. */
export const ASK_AGAIN = 10_000;
/** An answer that takes this long will not come. */
export const ANSWER_WITHIN = 5000;
/** A slow network carries what is under way at this rate at least (bytes in a second), and the question is behind it. */
export const BYTES_A_SECOND = 4096;
/** Cap of the first wait before an attempt, in milliseconds, */
export const BACKOFF_FIRST = 500;
/** and of any. */
export const BACKOFF_MAX = 20_000;
/** All clients were told the same delay: they come back spread over this time. */
export const RETRY_SPREAD = 500;
/** How long the server's close may take to follow its `done`, in milliseconds. */
export const CLOSE_AFTER_DONE = 2000;
