// A TCP proxy that can be cut, taken away, and made deaf, and that breaks connections at any byte: the
// network between page and server.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { generator } from '../test/support/world.mjs';

export async function startProxy(to) {
  let target = to;
  const pairs = new Set();
  let mode = 'up';
  let draw = () => null;
  let breaks = 0;
  let sent = 0;
  const server = createServer((near) => {
    if (mode === 'down') return near.resetAndDestroy();
    const far = connect(target, '127.0.0.1');
    const pair = { near, far, fate: draw(), deaf: false };
    near.setNoDelay();
    far.setNoDelay();
    pairs.add(pair);
    const end = () => {
      near.destroy();
      far.destroy();
      pairs.delete(pair);
    };
    for (const socket of [near, far]) socket.on('error', end).on('close', end);
    near.on('data', (bytes) => {
      sent += bytes.length;
      pass(pair, far, bytes);
    });
    far.on('data', (bytes) => pass(pair, near, bytes));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  // Not `pipe`: what arrives while deaf is swallowed, as by a network that is gone.
  function pass(pair, to, bytes) {
    if (mode === 'deaf' || pair.deaf) return;
    const { fate } = pair;
    if (!fate || bytes.length < fate.bytes) {
      if (fate) fate.bytes -= bytes.length;
      return to.write(bytes);
    }
    // Frames are cut in two here: what is before the byte arrives, the rest never does.
    breaks++;
    pair.fate = null;
    pair.deaf = true;
    if (fate.end === 'silence') {
      to.write(bytes.subarray(0, fate.bytes));
      return setTimeout(() => reset(pair), 500);
    }
    to.write(bytes.subarray(0, fate.bytes), () => (fate.end === 'reset' ? reset(pair) : pair.near.destroy()));
  }

  const reset = ({ near, far }) => {
    near.resetAndDestroy();
    far.destroy();
  };
  const cut = () => pairs.forEach(reset);
  return {
    port: server.address().port,
    /** The server has moved. */
    retarget(port) {
      target = port;
    },
    /** Bytes that pages have sent. */
    get sent() {
      return sent;
    },
    /** How many connections `chaos` has broken. */
    get breaks() {
      return breaks;
    },
    /**
     * From now on each connection breaks after some number of bytes of both directions, at most `longest`: by
     * a reset, an end, or silence. The same seed draws the same numbers.
     */
    chaos(seed, longest) {
      const random = generator(seed);
      const ends = ['reset', 'reset', 'reset', 'end', 'end', 'silence'];
      draw = () => ({ bytes: 1 + Math.floor(random() * longest), end: ends[Math.floor(random() * ends.length)] });
      for (const pair of pairs) pair.fate = draw();
    },
    calm() {
      draw = () => null;
      for (const pair of pairs) pair.fate = null;
    },
    /** Resets all connections; new ones are welcome. */
    cut,
    /** The server is gone: connections are reset, new ones, too. */
    down() {
      mode = 'down';
      cut();
    },
    /** Connections stay and nothing gets through: nobody is told. */
    deaf() {
      mode = 'deaf';
    },
    up() {
      // What was swallowed is missing in the middle of a stream: such a connection is of no use any more.
      if (mode === 'deaf') for (const { far } of pairs) far.destroy();
      mode = 'up';
    },
    close() {
      cut();
      server.close();
    },
  };
}
