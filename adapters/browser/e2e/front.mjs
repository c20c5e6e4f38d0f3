// Serves the scenarios' page from the address of the server under test, whatever that is, and hands the rest on to it.
// (A page made up by the browser's driver counts as one from the internet, which may not connect to this machine.)
//
// It can be a proxy that does not let WebSockets through, or holds streams back.

import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';

export async function startFront(to, files) {
  let target = to;
  /** @type {null | 'refuse' | 'refuse one' | 'hang' | 'mute' | 'buffer'} */
  let blocks = null;
  const server = createServer((req, response) => {
    const { pathname } = new URL(req.url, 'http://front');
    const file = files[pathname];
    if (file || pathname !== '/live') return response.writeHead(file ? 200 : 404, { 'content-type': file?.type ?? 'text/plain' }).end(file?.body);
    const { method, url: path, headers } = req;
    const far = request({ host: '127.0.0.1', port: target, method, path, headers }, (answer) => {
      const held = blocks === 'buffer' && answer.headers['content-type'] === 'text/event-stream';
      if (held) return answer.on('error', () => {}).resume();
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.on('error', () => response.destroy());
      answer.pipe(response);
    });
    far.on('error', () => response.destroy());
    response.on('close', () => far.destroy());
    req.pipe(far);
  });
  server.on('upgrade', (req, near, head) => {
    near.on('error', () => {});
    const one = blocks === 'refuse one';
    if (one) blocks = null;
    if (one || blocks === 'refuse') return near.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
    if (blocks === 'hang') return;
    const far = connect(target, '127.0.0.1');
    const lines = [`${req.method} ${req.url} HTTP/1.1`];
    for (let i = 0; i < req.rawHeaders.length; i += 2) lines.push(`${req.rawHeaders[i]}: ${req.rawHeaders[i + 1]}`);
    far.write(`${lines.join('\r\n')}\r\n\r\n`);
    far.write(head);
    near.pipe(far);
    if (blocks === 'mute') far.once('data', (bytes) => near.write(bytes.subarray(0, bytes.indexOf('\r\n\r\n') + 4)));
    else far.pipe(near);
    near.on('error', () => far.destroy()).on('close', () => far.destroy());
    far.on('error', () => near.destroy()).on('close', () => near.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    /** What does not pass from now on; null: nothing. */
    block(what) {
      blocks = what;
    },
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
