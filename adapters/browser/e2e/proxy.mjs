// A TCP proxy that can be cut, taken away, and made deaf: the network between page and server.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export async function startProxy(target) {
  const pairs = new Set();
  let mode = 'up';
  const server = createServer((near) => {
    if (mode === 'down') return near.resetAndDestroy();
    const far = connect(target, '127.0.0.1');
    const pair = { near, far };
    pairs.add(pair);
    const end = () => {
      near.destroy();
      far.destroy();
      pairs.delete(pair);
    };
    for (const socket of [near, far]) socket.on('error', end).on('close', end);
    // Not `pipe`: what arrives while deaf is swallowed, as by a network that is gone.
    near.on('data', (bytes) => mode === 'deaf' || far.write(bytes));
    far.on('data', (bytes) => mode === 'deaf' || near.write(bytes));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => {
    for (const { near, far } of pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  };
  return {
    port: server.address().port,
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
