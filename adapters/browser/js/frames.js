// Frames of a pipe, in bodies and as events of a stream. Texts and binaries are those of a WebSocket, unchanged.

/** @import { PipeFrame } from './types.js' */

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;

/** In front of each payload: its kind and its length. */
const HEAD = 5;
const UNKNOWN = 'unknown-kind';
const BAD = 'bad-payload';

/** @param {BufferSource} bytes */
const readText = (bytes) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);

/**
 * Writes a frame; its bytes can be joined with others.
 *
 * @param {number} kind
 * @param {string | Uint8Array<ArrayBuffer>} data of a close: the reason
 * @param {number} [code]
 */
export function encodeFrame(kind, data, code = undefined) {
  const payload = typeof data === 'string' ? new TextEncoder().encode(data) : data;
  const begin = code === undefined ? HEAD : HEAD + 2;
  const bytes = new Uint8Array(begin + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = kind;
  view.setUint32(1, bytes.length - HEAD);
  if (code !== undefined) view.setUint16(HEAD, code);
  bytes.set(payload, begin);
  return bytes;
}

/** @param {Uint8Array[]} parts */
export function join(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Reads frames from bytes that come in pieces. A frame whose end never comes was never there. */
export class FrameReader {
  #rest = new Uint8Array();

  /** A frame has begun whose end has not come. */
  get inside() {
    return this.#rest.length > 0;
  }

  /**
   * Yields the frames that are whole now; throws at what is none.
   *
   * @param {Uint8Array} piece
   * @returns {Generator<PipeFrame>}
   */
  *feed(piece) {
    let bytes = (this.#rest = join([this.#rest, piece]));
    while (bytes.length >= HEAD) {
      const end = HEAD + new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
      if (bytes.length < end) break;
      const frame = readFrame(bytes[0], bytes.slice(HEAD, end));
      this.#rest = bytes = bytes.subarray(end);
      yield frame;
    }
  }
}

/**
 * @param {number} kind
 * @param {Uint8Array<ArrayBuffer>} payload
 * @returns {PipeFrame}
 */
function readFrame(kind, payload) {
  const { length } = payload;
  if (kind === TEXT) return { kind, data: readText(payload) };
  if (kind === BINARY) return { kind, data: payload };
  if (kind === PING && !length) return { kind };
  if (kind === CLOSE && length > 1 && length < 126) {
    return { kind, close: { code: payload[0] * 256 + payload[1], reason: readText(payload.subarray(2)) } };
  }
  throw kind === PING || kind === CLOSE ? BAD : UNKNOWN;
}

/**
 * Reads a close that stands in a line: `4100 superseded`.
 *
 * @param {string | null} line
 */
export function readCloseLine(line) {
  const [, code, reason = ''] = /^(\d+)(?: (.*))?$/.exec(line ?? '') ?? [];
  return code && +code < 65536 ? { code: +code, reason } : null;
}

/** Reads events from bytes that come in pieces. An event that is cut in the middle was never there. */
export class EventReader {
  inside = false;
  #decoder = new TextDecoder('utf-8', { fatal: true });
  #rest = '';
  /** The last character was a CR: an LF now is the same line's end. */
  #cr = false;
  #event = '';
  /** @type {string[]} */
  #data = [];

  /**
   * Yields frames and comments that are whole now; throws at what is none.
   *
   * @param {Uint8Array<ArrayBuffer>} piece
   * @returns {Generator<PipeFrame>}
   */
  *feed(piece) {
    let text = this.#decoder.decode(piece, { stream: true });
    if (!text) return;
    if (this.#cr && text[0] === '\n') text = text.slice(1);
    this.#cr = text.endsWith('\r');
    const lines = text.split(/\r\n?|\n/);
    // Only what is new is looked through: a line may be long.
    lines[0] = this.#rest + lines[0];
    this.#rest = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      const [, field, value] = /** @type {string[]} */ (/^([^:]*):? ?([^]*)$/.exec(line));
      if (!line) {
        const frame = this.#end();
        if (frame) yield frame;
      } else if (!field) yield { comment: value };
      else if (field === 'event') this.#event = value;
      else if (field === 'data') this.#data.push(value);
    }
  }

  /** @returns {PipeFrame | undefined} */
  #end() {
    const event = this.#event;
    const lines = this.#data;
    this.#event = '';
    this.#data = [];
    const data = lines.join('\n');
    if (event === 'ping') return { kind: PING };
    if (!lines.length) {
      if (!event) return;
    } else if (!event) return { kind: TEXT, data };
    else if (event === 'json') {
      const text = JSON.parse(data);
      if (typeof text === 'string') return { kind: TEXT, data: text };
    } else if (event === 'b64') return { kind: BINARY, data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) };
    else if (event === 'close') {
      const close = readCloseLine(data);
      if (close) return { kind: CLOSE, close };
    } else throw UNKNOWN;
    throw BAD;
  }
}
