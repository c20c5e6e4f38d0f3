// Compiled against the packed types, as a user's program would be.
import { ResumableSocket, type Options, type SessionEvent, type Status } from 'session-resume';
import { notify } from 'session-resume/notify';

const options: Options = { reconnect: 'prompt', confirmLeave: true, keepUnsent: true, backoff: [1, 2, 4], maxBufferedMessages: 10 };
const socket = new ResumableSocket('/live', options);
const likeAWebSocket: Pick<WebSocket, 'send' | 'close' | 'readyState' | 'bufferedAmount' | 'binaryType' | 'url'> = socket;
likeAWebSocket.send(new Uint8Array(3));
socket.onmessage = ({ data }) => console.log(data);
socket.offerState({ iteration: 3, value: { any: 'JSON' } });
socket.onopen = function () {
  console.log(this.lifetime.toFixed());
  // @ts-expect-error: `this` is the socket
  this.latency;
};
socket.onclose = ({ code }) => console.log(code.toFixed());
socket.onstatus = (event) => {
  if (event.status === 'waiting') console.log(event.attempt, event.delay?.toFixed(1), event.until, event.kind === 'restarting');
  // @ts-expect-error: only a `gap` has one
  if (event.status === 'offline') console.log(event.gap);
};
socket.addEventListener('message', ({ data, origin }) => console.log(data, origin), { once: true });
socket.addEventListener('status', (event) => event.status === 'done' && console.log(event.outcome));
socket.addEventListener('close', ({ wasClean }) => console.log(wasClean));
// @ts-expect-error: an `open` has no data
socket.addEventListener('open', ({ data }) => console.log(data));
const current: Status = socket.current;
console.log(current.status, socket.lifetime.toFixed(), socket.kept.length);
const element: HTMLElement = notify(socket, { messages: { waiting: 'Warten …' }, delay: 2 });
element.remove();
// @ts-expect-error: no such option
new ResumableSocket('/live', { reconnects: true });
// What is made for each attempt, as a value or a function.
new ResumableSocket(async (attempt) => `/live?attempt=${attempt.toFixed()}`, { headers: async () => ({ authorization: 'Bearer …' }), credentials: 'omit', keepUnsent: 'live' });
new ResumableSocket(() => new URL('wss://example.test/live'), { headers: [['authorization', 'Bearer …']], credentials: () => undefined });
// @ts-expect-error: no URL
new ResumableSocket(() => 7);
// What is asked before the queue goes to another session.
const meeting = new ResumableSocket('/live', { initial: () => [new Uint8Array(3), 'text'] });
meeting.onsession = (event: SessionEvent) => {
  meeting.queued = event.queued.filter((data) => typeof data === 'string');
  meeting.inDoubt = [];
  // @ts-expect-error: a copy
  meeting.queued.pop();
};
meeting.addEventListener('session', ({ queued, inDoubt }) => console.log(queued.length, inDoubt.length), { once: true });
new ResumableSocket('/live', { initial: () => {} });
// @ts-expect-error: no message
new ResumableSocket('/live', { initial: () => 7 });
notify(meeting).remove();
