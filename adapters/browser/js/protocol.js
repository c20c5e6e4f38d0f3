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

// The numbers of pipes and of the choice of a transport: tests/vectors/http.json has them. Times are in milliseconds.

/** The content type of bodies of frames. */
export const FRAMES = 'application/vnd.session-resume';
export const EVENTS = 'text/event-stream';
/** The subprotocol that asks only whether WebSockets pass. */
export const PROBE = `${AT}probe`;
/** On a pipe we acknowledge this long after a message: each acknowledgement may be a request. */
export const PIPE_ACK_AFTER = 1000;
/** What a hello says, until it has: how long a pipe lives without a request, */
export const PIPE_ABSENT = 10_000;
/** and how long a get waits. */
export const PIPE_HOLD = 25_000;
/** A post has this many frames at most, */
export const PIPE_BATCH_FRAMES = 256;
/** and this many bytes; one frame may exceed. */
export const PIPE_BATCH_BYTES = 65536;
/** A post is given up after this time, */
export const PIPE_POST_GIVEN_UP = 10_000;
/** and a get this long after it should have been answered. */
export const PIPE_GET_SLACK = 5000;
/** A stream without a byte for this long after its request, or without the mark of flow after the hello, is held back. */
export const PIPE_BUFFERED = 3000;
/** A request that failed is repeated after this time at first. */
export const PIPE_RETRY = 250;
/** An open that fails is repeated for this long. */
export const PIPE_OPEN_REPEATED = 2000;
/** A get that may not wait, or was displaced twice, comes again after this time. */
export const PIPE_PAUSE = 1000;
/** A stream is confirmed by a post when this many frames are not, */
export const PIPE_CONFIRM_FRAMES = 64;
/** or this many bytes. */
export const PIPE_CONFIRM_BYTES = 65536;
/** A WebSocket without a hello for this long makes us ask whether the server is there. */
export const CHOICE_MUTE = 3000;
/** An answer within this time means that the WebSocket is given up. */
export const CHOICE_OPTIONS = 1000;
/** A WebSocket that dies without a close this soon after its hello */
export const CHOICE_DIED_WITHIN = 60_000;
/** counts, after this many in a row, as one without a hello. */
export const CHOICE_DEATHS = 3;
/** When a pipe looks for a WebSocket: after its hello, and then after each look. */
export const CHOICE_PROBES = [5000, 25_000, 270_000, 1_800_000];
/** How long it is remembered that WebSockets are blocked. */
export const CHOICE_REMEMBERED = 3_600_000;
