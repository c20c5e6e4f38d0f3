// Serves the scenarios' page from the address of the server under test, whatever that is, and hands
// upgrades on to it. (A page made up by the browser's driver counts as one from the internet, which
// may not connect to this machine.)

import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';

export async function startFront(to, files) {
  let target = to;
  const server = createServer((req, response) => {
    const file = files[new URL(req.url, 'http://front').pathname];
    response.writeHead(file ? 200 : 404, { 'content-type': file?.type ?? 'text/plain' }).end(file?.body);
  });
  server.on('upgrade', (req, near, head) => {
    const far = connect(target, '127.0.0.1');
    const lines = [`${req.method} ${req.url} HTTP/1.1`];
    for (let i = 0; i < req.rawHeaders.length; i += 2) lines.push(`${req.rawHeaders[i]}: ${req.rawHeaders[i + 1]}`);
    far.write(`${lines.join('\r\n')}\r\n\r\n`);
    far.write(head);
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy()).on('close', () => far.destroy());
    far.on('error', () => near.destroy()).on('close', () => near.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    /** The server has moved. */
    retarget(port) {
      target = port;
    },
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
