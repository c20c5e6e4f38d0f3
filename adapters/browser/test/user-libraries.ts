// Compiled against the packed types: a socket of ours is what libraries take for a WebSocket.
import { createWSClient } from '@trpc/client';
import { createClient } from 'graphql-ws';
import { webSocket } from 'rxjs/webSocket';
import { ResumableSocket } from 'session-resume';
import { StrictSocket } from 'session-resume/strict';

const socket: WebSocket = new StrictSocket('/live', { whileHidden: true });
const implementation: typeof WebSocket = StrictSocket;
const resumable: typeof WebSocket = ResumableSocket;
webSocket<number>({ url: '/live', WebSocketCtor: StrictSocket }).subscribe((n) => console.log(n.toFixed()));
createClient({ url: '/live', webSocketImpl: StrictSocket }).dispose();
createWSClient({ url: '/live', WebSocket: StrictSocket }).close();
console.log(socket.readyState, implementation.OPEN, resumable.OPEN);
new StrictSocket('/live', ['chat']).onsession = ({ queued }) => console.log(queued.length);
// @ts-expect-error: no URL
new StrictSocket(7);
