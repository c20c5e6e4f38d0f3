// One question a row: what does the machine do on this event in this state?

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseBackoff } from '../js/backoff.js';
import { refusal } from '../js/close.js';
import { initial, step } from '../js/machine.js';

const CLIENT = 'abcdefghijklmnop';
const control = (object) => '\u0001' + JSON.stringify(object);

/** Drives a machine, collecting effects until they are asked for. */
class Machine {
  now = 1000;
  random = 0.5;
  effects = [];

  constructor(config = {}) {
    this.state = initial(
      {
        reconnect: true,
        backoff: parseBackoff(config.backoff),
        whileHidden: false,
        connectTimeout: 10_000,
        closeTimeout: 2000,
        asks: false,
        knocks: false,
        ...config.machine,
      },
      CLIENT,
      config.saved,
    );
    this.do({ type: 'start', hidden: false, offline: false, ...config.start });
  }

  do(event) {
    const before = structuredClone(this.state);
    const given = this.state;
    const { state, effects } = step(given, { now: this.now, random: this.random, ...event });
    assert.deepEqual(given, before, 'a step must not change the state it is given');
    this.state = state;
    this.effects.push(...effects);
    return this;
  }

  get n() {
    return this.state.transport;
  }

  frame(data) {
    return this.do({ type: 'frame', n: this.n, data });
  }

  control(object) {
    return this.frame(control(object));
  }

  closed(code, reason = '') {
    return this.do({ type: 'closed', n: this.n, code, reason });
  }

  timer(name, due = this.now) {
    return this.do({ type: 'timer', name, due });
  }

  send(data) {
    return this.do({ type: 'send', data, bytes: data.length });
  }

  /** Answers the offer, or the next one when the backoff runs. */
  hello(hello = {}) {
    if (this.state.phase === 'waiting') this.timer('retry');
    return this.do({ type: 'opened', n: this.n, protocol: 'session-resume.v1' }).control({ hello: { ...HELLO, ...hello } });
  }

  /** The effects since the last call, in short. */
  took() {
    return this.effects.splice(0).map(short).filter(Boolean);
  }

  /** The same of one kind. */
  tookOf(kind) {
    return this.took().filter((text) => text.startsWith(kind));
  }
}

const HELLO = {
  v: 1, session: 's1', epoch: 'e1', attachment: 1, status: 'new', from: 0, received: 0, gap: null,
  heartbeat_ms: 30_000, lifetime_ms: 120_000, window: { messages: 256, bytes: 1 << 20 },
};

function short(effect) {
  switch (effect.type) {
    case 'connect':
      return `connect ${effect.protocols.join(' ')}`;
    case 'write':
      return `write ${effect.data.replaceAll('\u0001', '^')}`;
    case 'closeTransport':
      return `close ${effect.code}${effect.silent ? ' silent' : ''}`;
    case 'setTimer':
      return `timer ${effect.name} ${effect.delay}`;
    case 'deliver':
      return `deliver ${effect.data.replaceAll('\u0001', '^')}`;
    case 'emit': {
      const { status, ...rest } = effect.status;
      return `status ${status} ${JSON.stringify(rest)}`;
    }
    case 'ended':
      return `ended ${effect.code} ${effect.reason}`;
    default:
      return effect.type;
  }
}

/** A machine with an open session, its effects taken. */
function open(config, hello) {
  const machine = new Machine(config).hello(hello);
  machine.took();
  return machine;
}

test('the first offer is fresh, and nothing is sent before the hello', () => {
  const m = new Machine();
  assert.deepEqual(m.took(), ['status connecting {"attempt":1}', `connect session-resume.v1 at.${CLIENT}`, 'timer connect 10000']);
  m.send('early').do({ type: 'opened', n: 1, protocol: 'session-resume.v1' });
  assert.deepEqual(m.took(), []);
  m.control({ hello: { ...HELLO, from: 7 } });
  assert.deepEqual(m.took(), [
    'write ^{"ack":7}', 'timer ack 30000', 'write early', 'timer watch 75000', 'opened',
    'status open {"session":"s1"}', 'status new {"session":"s1","gap":null}',
  ]);
});

test('an offer names session, epoch, position and attachment, also at position 0', () => {
  const m = open({}, { session: 'S-1', epoch: 'E_2', attachment: 9 });
  m.frame('a').closed(1006);
  assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.S-1.E_2.1.9`]);
  const quiet = open({}, { attachment: 3 });
  quiet.now += 60_000;
  quiet.closed(1006);
  assert.deepEqual(quiet.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.0.3`]);
});

test('a resumed session re-sends from received and lets go only on an ack', () => {
  const m = open();
  for (const data of ['a', 'b', 'c']) m.send(data);
  m.control({ ack: 1 }).closed(1006);
  m.hello({ status: 'resumed', received: 2 });
  assert.deepEqual(m.tookOf('write').slice(-2), ['write ^{"ack":0}', 'write c']);
  assert.equal(m.state.outbox.length, 2, 'received is not acknowledged');
  // A restart may take accepted messages back, never acknowledged ones.
  m.closed(1006).hello({ status: 'restored', epoch: 'e2', received: 1 });
  assert.deepEqual(m.tookOf('write').slice(-3), ['write ^{"ack":0}', 'write b', 'write c']);
  m.control({ hb: 3 });
  assert.equal(m.state.outbox.length, 0);
});

test('what is in doubt is told, never sent again; what was never written goes to the new session', () => {
  for (const hello of [{ session: 's2', epoch: 'e9', status: 'new', received: 0 }, { status: 'reused', received: null }]) {
    const m = open({}, { window: { messages: 2, bytes: 100 } });
    for (const data of ['a', 'b', 'c']) m.send(data);
    m.control({ ack: 1 });
    m.send('d').closed(1006);
    m.took();
    m.hello({ ...hello, gap: { from: 0, to: null, reason: 'expired' } });
    const took = m.took();
    assert.deepEqual(took.filter((text) => /^write|lost/.test(text)), [
      'write ^{"ack":0}', 'write d', 'status lost {"messages":["b","c"],"reason":"in doubt"}',
    ]);
    assert.deepEqual([m.state.base, m.state.sent], [0, 1]);
  }
});

test('what an earlier transport wrote is in doubt, too, though this one did not come to it', () => {
  const m = open({}, { window: { messages: 2, bytes: 100 } });
  for (const data of ['a', 'b', 'c', 'd']) m.send(data);
  m.control({ ack: 2 }).closed(1006);
  m.hello({ status: 'restored', epoch: 'e2', received: 2, window: { messages: 1, bytes: 100 } });
  m.took();
  m.closed(1006).hello({ session: 's2', gap: { from: 0, to: null, reason: 'expired' } });
  assert.deepEqual(m.took().filter((text) => /^write|lost/.test(text)), [
    'write ^{"ack":0}', 'status lost {"messages":["c","d"],"reason":"in doubt"}',
  ]);
});

test('what the server has received but not acknowledged still fills the window', () => {
  for (const window of [{ messages: 2, bytes: 100 }, { messages: 9, bytes: 10 }]) {
    const m = open({}, { window });
    for (const data of ['aaaa', 'bbbb', 'cccc']) m.send(data);
    m.closed(1006).hello({ status: 'resumed', received: 2, window });
    assert.deepEqual(m.tookOf('write c'), []);
    assert.deepEqual(m.control({ ack: 1 }).tookOf('write'), ['write cccc']);
  }
});

test('an older ack changes nothing', () => {
  const m = open().send('a').send('b').send('c').control({ ack: 2 });
  const { outbox, base } = m.state;
  m.control({ ack: 1 });
  assert.deepEqual([m.state.outbox, m.state.base], [outbox, base]);
});

test('a fresh hello of a known client counts on from received', () => {
  const m = open({}, { status: 'reused', received: 41 });
  m.send('a').control({ ack: 42 });
  assert.equal(m.state.outbox.length, 0);
  m.control({ ack: 43 });
  assert.deepEqual(m.tookOf('close'), ['close 4103']);
});

test('acks: after 64 messages, 64 KiB, half the window, 250 ms, and every heartbeat', () => {
  const acks = (m) => m.tookOf('write');
  const m = open();
  for (let i = 0; i < 63; i++) m.frame('x');
  assert.deepEqual(acks(m), []);
  assert.deepEqual(acks(m.frame('x')), ['write ^{"ack":64}']);
  assert.deepEqual(acks(m.frame('x'.repeat(65_535))), []);
  assert.deepEqual(acks(m.frame('é')), ['write ^{"ack":66}'], 'bytes are counted, not characters');

  const small = open({}, { window: { messages: 6, bytes: 100 } });
  assert.deepEqual(acks(small.frame('x').frame('x')), []);
  assert.deepEqual(acks(small.frame('x')), ['write ^{"ack":3}']);
  assert.deepEqual(acks(small.frame('x'.repeat(50))), ['write ^{"ack":4}']);

  const slow = open();
  assert.deepEqual(slow.frame('x').took(), ['timer ack 250', 'deliver x']);
  slow.now += 250;
  assert.deepEqual(slow.timer('ack').took(), ['write ^{"ack":1}', 'timer ack 30000']);
  assert.deepEqual(slow.timer('ack').took(), ['write ^{"ack":1}', 'timer ack 30000'], 'a heartbeat of its own');
  // A hidden page's timer is late: any frame makes up for it.
  slow.frame('y');
  slow.now += 251;
  assert.deepEqual(acks(slow.control({ hb: 0 })), ['write ^{"ack":2}']);
});

test('an ack follows the message it counts, so that the application has taken it', () => {
  const m = open({}, { window: { messages: 2, bytes: 100 } });
  assert.deepEqual(m.frame('x').took(), ['timer ack 250', 'deliver x', 'write ^{"ack":1}', 'timer ack 30000']);
});

test('the window bounds what is under way, in messages and in bytes', () => {
  const m = open({}, { window: { messages: 3, bytes: 10 } });
  for (const data of ['aaaa', 'bbbb', 'cccc', 'd', 'e']) m.send(data);
  assert.deepEqual(m.took(), ['write aaaa', 'write bbbb']);
  assert.deepEqual(m.control({ ack: 1 }).took(), ['write cccc', 'write d']);
  m.control({ ack: 4 }).send('x'.repeat(50));
  assert.deepEqual(m.tookOf('write'), ['write e'], 'too large beside another');
  assert.deepEqual(m.control({ ack: 5 }).tookOf('write'), [`write ${'x'.repeat(50)}`], 'alone it goes');
});

test('text that begins with U+0001 is escaped and comes back', () => {
  const m = open().send('\u0001{"ack":5}');
  assert.deepEqual(m.took(), ['write ^^{"ack":5}']);
  assert.deepEqual(m.frame('\u0001\u0001x').tookOf('deliver'), ['deliver ^x']);
});

test('breaches of the protocol close with 4103, and the client starts over once', () => {
  const breaches = [
    '\u0001x', '\u0001', '\u0001{', '\u0001{"ack":-1}', '\u0001{"ack":"1"}', '\u0001{"ack":9007199254740992}', '\u0001{"ack":1.5}',
    '\u0001{"gap":{"from":0,"to":null,"reason":"expired"}}', '\u0001{"gap":{"from":1,"to":2,"reason":"overflow"}}', '\u0001{"retry":null}',
    '\u0001{"done":{}}', '\u0001{"ack":1}', control({ hello: HELLO }),
  ];
  for (const breach of breaches) {
    const m = open().frame(breach).timer('retry');
    assert.deepEqual(m.tookOf('c'), ['close 4103', `connect session-resume.v1 at.${CLIENT}`], breach);
    m.hello({ status: 'reused' }).closed(4103, 'again');
    assert.equal(m.state.phase, 'ended', breach);
    assert.deepEqual(m.tookOf('ended'), ['ended 4103 again']);
  }
  assert.deepEqual(open().control({ news: 1 }).took(), [], 'unknown members are left alone');
  assert.deepEqual(new Machine().frame('data').tookOf('close'), ['close 4103'], 'data before the hello');
  for (const wrong of [{ v: 2 }, { session: '' }, { session: 's 1' }, { status: 'old' }, { received: -1 }, { window: null }, { gap: 1 }]) {
    assert.deepEqual(new Machine().hello(wrong).tookOf('close'), ['close 4103'], JSON.stringify(wrong));
  }
});

test('a 4103 starts over at most once until a session is resumed', () => {
  const m = open().send('a').closed(4103, 'cursor above the head');
  assert.deepEqual(m.took().slice(1), [
    'status lost {"messages":["a"],"reason":"in doubt"}', 'timer retry 250', 'status waiting {"attempt":2,"delay":0.25,"until":"time","kind":"protocol-error","reason":"cursor above the head"}',
  ]);
  assert.deepEqual(m.timer('retry').tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}`]);
  m.hello({ status: 'reused', received: 1 }).closed(1006).hello({ status: 'resumed', received: 1 });
  m.took();
  assert.equal(m.closed(4103).state.phase, 'waiting', 'resumed meanwhile');
  assert.equal(new Machine().closed(4103).state.phase, 'ended', 'a fresh offer cannot be made fresher');
});

test('a stream that goes on elsewhere without a gap told is a breach', () => {
  const at2 = () => open().frame('a').frame('b').closed(1006);
  const rows = [
    [{ from: 2 }, 'open'],
    [{ from: 1 }, 'breach'],
    [{ from: 3 }, 'breach'],
    [{ from: 5, gap: { from: 2, to: 5, reason: 'overflow' } }, 'open'],
    [{ from: 1, gap: { from: 2, to: 1, reason: 'overflow' } }, 'breach'],
    [{ from: 0, epoch: 'e2', status: 'restored', gap: { from: 2, to: null, reason: 'restarted' } }, 'open'],
  ];
  for (const [hello, expected] of rows) {
    const m = at2();
    m.took();
    m.hello({ status: 'resumed', ...hello });
    const breach = m.took().includes('close 4103');
    assert.equal(breach ? 'breach' : m.state.phase, expected, JSON.stringify(hello));
  }
});

test('a skip moves the position and is not told', () => {
  const m = open().frame('a');
  m.control({ skip: 3 });
  m.took();
  m.frame('b');
  m.advance?.(250);
  m.closed(1006);
  assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.4.1`]);
  m.hello({ status: 'resumed', from: 4 }).control({ skip: 6, gap: { from: 6, to: 8, reason: 'overflow' } });
  assert.equal(m.state.position, 8);
  m.took();
  m.control({ skip: 8 });
  assert.deepEqual(m.took(), [], 'no news');
  m.control({ skip: 7 });
  assert.ok(m.took().includes('close 4103'), 'backwards');
});

test('gaps move the position and are told, in the hello and in the stream', () => {
  const m = open().frame('a');
  m.took();
  m.control({ gap: { from: 1, to: 5, reason: 'overflow' } });
  assert.deepEqual(m.took().slice(0, 2), ['status gap {"gap":{"from":1,"to":5,"reason":"overflow"}}', 'write ^{"ack":5}']);
  m.frame('b').closed(1006);
  assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.6.1`]);
  m.hello({ session: 's2', status: 'new', gap: { from: 6, to: null, reason: 'expired' } });
  assert.deepEqual(m.tookOf('status').slice(-2), [
    'status new {"session":"s2","gap":{"from":6,"to":null,"reason":"expired"}}',
    'status expired {"gap":{"from":6,"to":null,"reason":"expired"}}',
  ]);
});

test('close codes', () => {
  const rows = [
    [1000, '', 'connecting'], [1001, '', 'connecting'], [1005, '', 'connecting'], [1006, '', 'connecting'], [1011, '', 'connecting'], [1012, 'restarting', 'connecting'],
    [1013, 'try again later', 'waiting'], [1013, 'stale', 'connecting'],
    [4112, 'restarting', 'connecting'], [4112, 'moved', 'connecting'], [4113, 'try again later', 'waiting'], [4113, 'stale', 'connecting'],
    [4104, 'read only', 'ended'], [4106, 'reauthenticate', 'connecting'],
    [4100, 'superseded', 'ended'], [4100, 'replaced', 'waiting'], [4101, 'another handler', 'ended'], [4103, 'protocol error', 'waiting'],
    [1009, 'message too big', 'waiting'],
  ];
  for (const [code, reason, phase] of rows) {
    assert.equal(open().frame('x').closed(code, reason).state.phase, phase, `${code} ${reason}`);
  }
});

test('superseded and refused wait for the user, and then offer the cursor', () => {
  for (const [code, reason, status] of [[4100, 'superseded', 'superseded {}'], [4101, 'full', 'refused {"kind":"refused","reason":"full"}'], [4104, 'read only', 'refused {"kind":"read-only","reason":"read only"}']]) {
    const m = open().send('kept').closed(code, reason);
    assert.deepEqual(m.took().slice(1), ['clearTimers', `status ${status}`, `ended ${code} ${reason}`]);
    m.do({ type: 'online' }).do({ type: 'visible' }).timer('retry');
    assert.deepEqual(m.took(), []);
    m.do({ type: 'reconnect', hidden: false, offline: false });
    assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.0.1`]);
    m.hello({ status: 'resumed', received: 0 });
    assert.ok(m.took().includes('write kept'));
  }
});

test('stale once: at once with the same cursor; twice: a copy, with an id of its own', () => {
  const m = open().send('a').closed(4113, 'stale');
  assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.0.1`]);
  m.closed(4113, 'stale');
  const took = m.took();
  assert.ok(took.includes('status lost {"messages":["a"],"reason":"in doubt"}'));
  const [offer] = took.filter((text) => text.startsWith('connect'));
  assert.match(offer, /^connect session-resume\.v1 at\.[\w-]{16,32}$/);
  assert.ok(!offer.endsWith(CLIENT));
});

test('reauthenticate: at once with the cursor; again with nothing in between: after a wait', () => {
  const m = open().frame('x').closed(4106, 'reauthenticate');
  assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.1.1`]);
  m.hello({ status: 'resumed', from: 1 }).closed(4106, 'reauthenticate');
  assert.deepEqual(m.tookOf('timer retry'), ['timer retry 250']);
  m.hello({ status: 'resumed', from: 1 }).frame('y').closed(4106, 'reauthenticate');
  assert.deepEqual(m.tookOf('connect').at(-1), `connect session-resume.v1 at.${CLIENT}.s1.e1.2.1`);
  assert.equal(m.state.phase, 'connecting');
});

test('reauthenticate: a hidden page comes back when it is looked at, one that prompts asks', () => {
  const hidden = open().do({ type: 'hidden' }).closed(4106, 'reauthenticate');
  assert.equal(hidden.state.until, 'visible');
  const prompt = open({ machine: { reconnect: 'prompt' } }).closed(4106, 'reauthenticate');
  assert.equal(prompt.state.until, 'user');
});

test('received above what was sent: a copy', () => {
  const m = open().send('a').closed(1006).hello({ status: 'resumed', received: 2 });
  const took = m.took();
  assert.ok(took.includes('status lost {"messages":["a"],"reason":"in doubt"}'));
  assert.match(took.at(-2), /^connect session-resume\.v1 at\.[\w-]{17,32}$/);
  assert.notEqual(m.state.client, CLIENT);
});

test('the stream goes on in another epoch, whatever the status says', () => {
  for (const status of ['resumed', 'reused']) {
    const m = open().frame('0').closed(1006);
    m.took();
    m.hello({ status, epoch: 'e2', from: 1, received: status === 'reused' ? null : 0 });
    assert.deepEqual(m.tookOf('write'), ['write ^{"ack":1}']);
    m.frame('1').closed(1006);
    assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e2.2.1`]);
    // It is held to it.
    const other = open().frame('0').closed(1006).hello({ status, epoch: 'e2', from: 0, received: null });
    assert.deepEqual(other.tookOf('close'), ['close 4103']);
  }
});

test('what was acknowledged and taken back is told, and the rest goes again', () => {
  const m = open();
  for (const data of ['a', 'b', 'c', 'd']) m.send(data);
  m.control({ ack: 3 }).closed(1006);
  m.took();
  m.hello({ status: 'resumed', epoch: 'e2', received: 1 });
  const took = m.took();
  assert.deepEqual(took.filter((text) => /^write|takenback|lost/.test(text)), ['write ^{"ack":0}', 'write d', 'status takenback {"count":2}']);
  assert.equal(m.control({ ack: 2 }).state.outbox.length, 0, 'it is the second now');
  // In the epoch that was offered it cannot be.
  const wrong = open().send('a').control({ ack: 1 }).closed(1006).hello({ status: 'resumed', received: 0 });
  assert.deepEqual(wrong.tookOf('close'), ['close 4103']);
});

test('a message that the server finds too big is given up and told, the others go on', () => {
  const m = open();
  for (const data of ['a', 'BIG', 'c']) m.send(data);
  m.closed(1009, 'too big');
  m.took();
  m.hello({ status: 'resumed', received: 1 });
  const took = m.took();
  assert.deepEqual(took.filter((text) => /^write|lost/.test(text)), ['write ^{"ack":0}', 'write c', 'status lost {"messages":["BIG"],"reason":"too big"}']);
  assert.equal(m.state.ever, 2, 'it does not count');
  assert.equal(m.control({ ack: 2 }).state.outbox.length, 0);
});

test('a message that the session has given up is told once, and only an ack lets go of it', () => {
  const lost = 'status lost {"messages":["P"],"reason":"dropped"}';
  const m = open();
  for (const data of ['a', 'P', 'c']) m.send(data);
  m.took();
  assert.deepEqual(m.control({ dropped: 1 }).took().filter((text) => /lost/.test(text)), [lost]);
  assert.equal(m.state.outbox.length, 3);
  // The transport breaks before the ack: it is told again, and no news.
  m.closed(1006).hello({ status: 'resumed', received: 3 });
  m.took();
  m.control({ dropped: 1 }).control({ ack: 2 }).control({ dropped: 0 }).control({ dropped: 1 });
  assert.deepEqual(m.took().filter((text) => /lost|close/.test(text)), []);
  assert.deepEqual(m.state.outbox.map(({ data }) => data), ['c']);
  // What was never sent cannot have been given up.
  assert.ok(m.control({ dropped: 3 }).took().some((text) => /4103/.test(text)));
});

test('what the session has given up is neither in doubt nor untaken', () => {
  const doubt = open();
  for (const data of ['a', 'P']) doubt.send(data);
  doubt.control({ dropped: 1 }).closed(1006);
  doubt.took();
  doubt.hello({ status: 'new', session: 'another', gap: { from: 0, to: null, reason: 'expired' } });
  assert.ok(doubt.took().includes('status lost {"messages":["a"],"reason":"in doubt"}'));
  const done = open();
  for (const data of ['a', 'P', 'c']) done.send(data);
  done.took();
  done.control({ dropped: 1 }).control({ done: { status: 'closed', received: 2 } }).closed(1000, 'done');
  assert.ok(done.took().some((text) => /^status done .*"messages":\["c"\]/.test(text)));
});

test('what cannot be the message that was too big is sent again', () => {
  const narrow = { window: { messages: 1, bytes: 100 } };
  const rows = {
    'restarted meanwhile': [{}, { status: 'restored', epoch: 'e2', gap: { from: 0, to: null, reason: 'restarted' } }, ['a']],
    'rebuilt meanwhile': [{}, { status: 'resumed', epoch: 'e2' }, ['a']],
    'all of it arrived': [narrow, { ...narrow, received: 1 }, []],
  };
  for (const [name, [before, hello, again]] of Object.entries(rows)) {
    const m = open({}, before).send('a').closed(1009).send('b');
    m.took();
    m.hello({ status: 'resumed', received: 0, ...hello });
    const took = m.took();
    assert.deepEqual(took.filter((text) => /lost/.test(text)), [], name);
    assert.deepEqual(took.filter((text) => /^write [ab]/.test(text)).slice(0, again.length), again.map((text) => `write ${text}`), name);
  }
  // Closed before it was greeted: nothing was sent on that transport.
  const m = open().send('a').closed(1006);
  m.timer('retry').closed(1009);
  m.took();
  assert.ok(m.hello({ status: 'resumed' }).took().includes('write a'));
  // Nor what only an earlier transport had.
  m.closed(1006).send('b').hello({ status: 'resumed', ...narrow }).closed(1006);
  m.hello({ status: 'resumed' }).closed(1006);
  m.hello({ status: 'resumed', ...narrow }).closed(1009);
  m.took();
  assert.ok(m.hello({ status: 'resumed', received: 1 }).took().includes('write b'));
});

test('after replaced and too big the row of attempts goes on, though the transport was of use', () => {
  for (const [code, reason] of [[4100, 'replaced'], [1009, 'message too big']]) {
    const m = open();
    m.random = 0.999999;
    const delays = [];
    for (let i = 0; i < 4; i++) {
      m.control({ hb: 0 }).closed(code, reason);
      delays.push(Math.round(m.tookOf('timer retry')[0].split(' ')[2]));
      m.hello({ status: 'resumed' });
      m.took();
    }
    assert.deepEqual(delays, [500, 1000, 2000, 4000], reason);
    assert.equal(m.control({ hb: 0 }).closed(1006).state.phase, 'connecting');
  }
});

test('done ends, and names what was never taken', () => {
  const m = open();
  for (const data of ['a', 'b', 'c']) m.send(data);
  m.frame('last').control({ ack: 1 });
  m.took();
  m.control({ done: { status: 'failed', received: 2 } });
  assert.deepEqual(m.took(), ['write ^{"ack":1}', 'timer ack 30000', 'timer close 2000']);
  m.frame('late').control({ ack: 9 }).timer('watch').timer('ack').do({ type: 'online' }).do({ type: 'close', code: null, reason: '' });
  assert.deepEqual(m.took(), [], 'it waits for the server’s close and for nothing else');
  m.closed(1000, 'done');
  assert.deepEqual(m.took(), ['clearTimers', 'status done {"outcome":"failed","messages":["c"]}', 'ended 1000 failed']);
  m.timer('retry');
  assert.deepEqual(m.took(), []);
  assert.deepEqual(m.do({ type: 'reconnect', hidden: false, offline: false }).tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}`]);
});

test('done, and how the server closed', () => {
  const rows = [
    [4429, 'too many', 'ended 4429 too many'], [1000, 'bye', 'ended 1000 bye'], [1000, '', 'ended 1000 closed'],
    [1006, '', 'ended 1000 closed'], [1005, '', 'ended 1000 closed'],
  ];
  for (const [code, reason, expected] of rows) {
    const m = open().control({ done: { status: 'closed', received: 0 } }).closed(code, reason);
    assert.deepEqual(m.took().slice(-2), ['status done {"outcome":"closed","messages":[]}', expected]);
  }
  const silent = open().control({ done: { status: 'closed', received: 0 } }).timer('close');
  assert.deepEqual(silent.took().slice(-4), ['close 1000', 'clearTimers', 'status done {"outcome":"closed","messages":[]}', 'ended 1000 closed']);
});

test('news of an older transport is ignored', () => {
  const m = open().closed(1006);
  m.took();
  const before = m.state;
  m.do({ type: 'frame', n: 1, data: 'late' }).do({ type: 'closed', n: 1, code: 4101, reason: 'late' }).do({ type: 'opened', n: 1, protocol: '' });
  assert.deepEqual(m.took(), []);
  assert.deepEqual(m.state, before);
});

test('the default backoff: at once, then full jitter below a cap that doubles from 0.5 s to 20 s', () => {
  const m = new Machine();
  m.random = 0.999999;
  const delays = [];
  for (let i = 0; i < 9; i++) {
    m.closed(1006);
    delays.push(m.tookOf('timer retry').map((text) => Math.round(Number(text.split(' ')[2])))[0]);
    if (m.state.phase === 'waiting') m.timer('retry');
  }
  // The first connection itself is attempt 1.
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
});

test('after a transport of use the next attempt goes at once', () => {
  assert.equal(open().frame('x').closed(1006).state.phase, 'connecting');
  assert.equal(open().control({ hb: 0 }).closed(1006).state.phase, 'connecting');
  const held = open();
  held.now += 5000;
  assert.equal(held.closed(1006).state.phase, 'connecting');
  assert.equal(open().closed(1006).state.phase, 'waiting', 'else a server that drops everyone is stormed');
});

test('a list of delays is taken literally and ends in the user’s hands', () => {
  const m = open({ backoff: [1, 2] }).frame('x').closed(1006);
  assert.deepEqual(m.tookOf('status').slice(-1), ['status waiting {"attempt":1,"delay":1,"until":"time"}']);
  m.timer('retry').closed(1006);
  assert.deepEqual(m.tookOf('status').slice(-1), ['status waiting {"attempt":2,"delay":2,"until":"time"}']);
  m.timer('retry').closed(1006, 'gone');
  assert.deepEqual(m.tookOf('status').slice(-1), ['status failed {"code":1006,"reason":"gone","kind":"lost"}']);
  assert.deepEqual([m.state.phase, m.state.until], ['waiting', 'user']);
  for (const event of ['online', 'visible']) {
    const again = Object.assign(new Machine(), { state: m.state });
    again.took();
    assert.deepEqual(again.do({ type: event }).tookOf('status'), ['status connecting {"attempt":1}'], event);
  }
});

test('the server’s retry replaces the next delay only, and is spread over half a second', () => {
  const m = open().frame('x').control({ retry: 1234 }).closed(4112);
  assert.deepEqual(m.tookOf('timer retry'), ['timer retry 1484']);
  m.random = 0;
  m.timer('retry').control({ retry: 700 }).closed(4113);
  assert.deepEqual(m.tookOf('timer retry'), ['timer retry 700'], 'also before a hello');
  m.random = 0.5;
  m.timer('retry').closed(1006);
  assert.deepEqual(m.tookOf('timer retry'), ['timer retry 500']);
});

test('prompt: only the user reconnects', () => {
  const m = open({ machine: { reconnect: 'prompt' } }).frame('x').closed(1006);
  assert.deepEqual(m.tookOf('status').slice(-1), ['status waiting {"attempt":1,"delay":null,"until":"user"}']);
  m.do({ type: 'online' }).do({ type: 'visible' }).timer('retry');
  assert.deepEqual(m.took(), []);
  assert.deepEqual(m.do({ type: 'reconnect', hidden: false, offline: false }).tookOf('status'), ['status connecting {"attempt":1}']);
});

test('no reconnect: a drop is the end, told with its code', () => {
  const m = open({ machine: { reconnect: false } }).closed(1011, 'oops');
  assert.deepEqual(m.took().slice(-2), ['status failed {"code":1011,"reason":"oops","kind":"internal-error"}', 'ended 1011 oops']);
});

test('no attempts while hidden; at once when looked at', () => {
  const m = open().frame('x').do({ type: 'hidden' }).closed(1006);
  assert.deepEqual(m.tookOf('status').slice(-1), ['status waiting {"attempt":1,"delay":null,"until":"visible"}']);
  assert.deepEqual(m.do({ type: 'online' }).tookOf('status'), []);
  assert.equal(m.do({ type: 'visible' }).state.phase, 'connecting');
  // A delay that runs out in a hidden page waits, too.
  const later = open({ backoff: [5] }).frame('x').closed(1006).do({ type: 'hidden' }).timer('retry');
  assert.deepEqual([later.state.phase, later.state.until], ['waiting', 'visible']);
  assert.equal(open({ machine: { whileHidden: true } }).frame('x').do({ type: 'hidden' }).closed(1006).state.phase, 'connecting');
  assert.equal(new Machine({ start: { hidden: true, offline: true } }).state.phase, 'connecting', 'the first attempt asks nobody');
});

test('no attempts while offline; at once when online', () => {
  const m = open({ backoff: [5] }).frame('x').closed(1006);
  m.took();
  assert.equal(m.do({ type: 'offline' }).state.until, 'online');
  assert.deepEqual(m.took(), ['timer retry 30000', 'status offline {}'], 'or slowly: the browser may be wrong');
  assert.equal(m.do({ type: 'online' }).state.phase, 'connecting');
  // Hidden and offline: both must be over, and the status says what is left.
  const both = open().frame('x').do({ type: 'hidden' }).closed(1006).do({ type: 'offline' }).do({ type: 'visible' });
  assert.equal(both.state.until, 'online');
  assert.equal(both.tookOf('status').at(-1), 'status offline {}');
  assert.equal(both.do({ type: 'online' }).state.phase, 'connecting');
});

test('attempts while offline are slow, and never the last', () => {
  const m = open({ backoff: { attempts: 2 } }).frame('x').do({ type: 'offline' }).closed(1006);
  for (let i = 0; i < 9; i++) {
    assert.equal(m.state.until, 'online');
    assert.deepEqual(m.tookOf('timer retry'), ['timer retry 30000']);
    assert.deepEqual(m.timer('retry').tookOf('status'), ['status connecting {"attempt":1}']);
    m.closed(1006);
  }
  // It was only the browser that said so.
  m.timer('retry').hello({ status: 'resumed', from: 1 });
  assert.equal(m.state.phase, 'open');
  const hidden = open().frame('x').do({ type: 'hidden' }).do({ type: 'offline' }).closed(1006).timer('retry');
  assert.equal(hidden.state.until, 'visible');
  const prompt = open({ machine: { reconnect: 'prompt' } }).do({ type: 'offline' }).closed(1006);
  assert.equal(prompt.state.until, 'user');
});

test('a first attempt that fails asks what the route is, once', () => {
  const asking = () => {
    const m = new Machine({ machine: { asks: true } });
    m.took();
    return m.closed(1006);
  };
  const m = asking();
  assert.deepEqual(m.took(), ['ask', 'timer retry 10000']);
  assert.equal(m.state.phase, 'waiting');
  m.do({ type: 'answered', of: 1, foreign: 'it answers with status 404' });
  assert.deepEqual(m.took(), [
    'clearTimers', 'status failed {"code":1002,"reason":"the server does not speak session-resume.v1: it answers with status 404","kind":"foreign"}',
    'ended 1002 the server does not speak session-resume.v1: it answers with status 404',
  ]);
  m.do({ type: 'answered', of: 1, foreign: null });
  assert.deepEqual(m.took(), []);
  m.do({ type: 'reconnect', hidden: false, offline: false }).took();
  assert.deepEqual(m.closed(1006).tookOf('ask'), ['ask'], 'the user may ask again');
  // Ours, not to be told, or no answer: as ever.
  for (const event of [{ type: 'answered', of: 1, foreign: null }, { type: 'timer', name: 'retry', due: 0 }]) {
    const other = asking();
    other.took();
    assert.deepEqual(other.do(event).took(), ['timer retry 250', 'status waiting {"attempt":2,"delay":0.25,"until":"time"}']);
    assert.deepEqual(other.timer('retry').closed(1006).tookOf('ask'), [], 'once');
    other.do({ type: 'answered', of: 1, foreign: 'late' });
    assert.equal(other.state.phase, 'waiting');
  }
  const refused = asking();
  refused.took();
  refused.do({ type: 'answered', of: 1, foreign: null, refused: refusal(403, 'another origin') });
  assert.deepEqual(refused.took(), ['clearTimers', 'status refused {"kind":"refused","reason":"another origin"}', 'ended 1006 another origin']);
  const back = asking();
  assert.equal(back.do({ type: 'visible' }).state.phase, 'connecting');
  assert.equal(back.do({ type: 'answered', of: 1, foreign: 'late' }).state.phase, 'connecting');
  // Not where it has spoken before, said something, or took the connection.
  const spoken = open({ machine: { asks: true } });
  for (let i = 0; i < 3; i++) spoken.closed(1006).timer('retry');
  assert.deepEqual(spoken.tookOf('ask'), []);
  const busy = new Machine({ machine: { asks: true } }).closed(4113, 'try again later');
  assert.deepEqual(busy.tookOf('ask'), []);
  const silent = new Machine({ machine: { asks: true } }).timer('connect');
  assert.deepEqual(silent.tookOf('ask'), []);
});

test('after three failures in a row a plain request asks first, and the answer opens the transport', () => {
  const failed = (n, config = {}) => {
    const m = new Machine({ machine: { knocks: true, ...config } });
    for (let i = 0; i < n; i++) {
      assert.deepEqual(m.tookOf('knock'), [], `attempt ${i + 1}`);
      m.closed(1006).timer('retry');
    }
    return m;
  };
  const m = failed(3);
  const offer = `connect session-resume.v1 at.${CLIENT}`;
  assert.deepEqual(m.took().slice(-3), ['status connecting {"attempt":4}', 'knock', 'timer retry 10000']);
  // A button changes nothing about it, and late news of an earlier question neither.
  m.do({ type: 'reconnect', hidden: false, offline: false }).do({ type: 'knocked', of: 3, there: true });
  assert.deepEqual(m.took(), []);
  m.do({ type: 'knocked', of: 4, there: true });
  assert.deepEqual(m.took(), [offer, 'timer connect 10000']);
  m.do({ type: 'knocked', of: 4, there: true });
  assert.deepEqual(m.took(), [], 'once');
  // Nobody there: that was the attempt.
  m.closed(1006).timer('retry').took();
  m.do({ type: 'knocked', of: 5, there: false });
  assert.deepEqual(m.took(), ['timer retry 4000', 'status waiting {"attempt":6,"delay":4,"until":"time"}']);
  // No answer at all: tried anyway.
  assert.deepEqual(m.timer('retry').timer('retry').took(), ['status connecting {"attempt":6}', 'knock', 'timer retry 10000', offer, 'timer connect 10000']);
  // What has been open once is known to be there.
  m.hello().closed(1006).took();
  assert.deepEqual(m.timer('retry').tookOf('knock'), []);

  // The user, and a network that is back, ask too: what a browser holds back does not depend on who has begun.
  const user = failed(3);
  user.do({ type: 'knocked', of: 4, there: false }).took();
  for (const event of [{ type: 'reconnect', hidden: false, offline: false }, { type: 'online' }]) {
    assert.deepEqual(user.do(event).took(), ['status connecting {"attempt":1}', 'knock', 'timer retry 10000']);
  }
  user.do({ type: 'close', code: null, reason: '' }).timer('close').took();
  assert.deepEqual(user.do({ type: 'knocked', of: user.n, there: true }).took(), [], 'closed meanwhile');

  assert.deepEqual(failed(4, { knocks: false }).tookOf('knock'), [], 'where nothing can ask');
  assert.deepEqual(failed(0).timer('connect').timer('retry').timer('connect').timer('retry').timer('connect').timer('retry').tookOf('knock'), ['knock']);
});

test('where no question is ever answered, every eighth attempt does without it', () => {
  const m = new Machine({ machine: { knocks: true } });
  const opened = [];
  for (let i = 1; i <= 25; i++) {
    const did = m.took();
    if (did.some((text) => text.startsWith('connect '))) opened.push(i);
    if (m.state.phase === 'connecting') m.closed(1006);
    else m.do({ type: 'knocked', of: m.n, there: false });
    m.took();
    m.timer('retry');
  }
  assert.deepEqual(opened, [1, 2, 3, 9, 17, 25]);
});

/** A machine whose server answers pings, and that has sent something 3 s ago. */
function asking(message = 'x', hello = {}) {
  const m = open({}, { ping: true, ...hello });
  m.send(message);
  assert.ok(m.took().includes('timer probe 3000'));
  m.now += 3000;
  return m;
}

test('what is not acknowledged for 3 s makes the client ask, and a server that does not answer is dead', () => {
  const m = asking().timer('probe');
  assert.deepEqual(m.took(), ['write ^{"ping":true}', 'timer probe 1500']);
  m.now += 1500;
  assert.deepEqual(m.timer('probe').took(), ['status stalled {}', 'timer probe 3500']);
  // Whatever arrives shows that the network is there; the answer may be behind it.
  m.now += 3000;
  assert.deepEqual(m.frame('news').tookOf('status'), ['status open {"session":"s1"}']);
  m.now += 500;
  assert.deepEqual(m.timer('probe').took(), ['timer probe 1000']);
  m.now += 1000;
  assert.deepEqual(m.timer('probe').took(), ['status stalled {}', 'timer probe 3500']);
  m.now += 3500;
  assert.deepEqual(m.timer('probe').took().slice(0, 1), ['close 1000 silent']);
  assert.notEqual(m.state.phase, 'open');
});

test('a server whose handler is busy answers, and is asked again as long as nothing is acknowledged', () => {
  const m = asking();
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(m.timer('probe').tookOf('write'), ['write ^{"ping":true}']);
    m.now += 1000;
    assert.ok(m.control({ hb: 0 }).took().includes('timer probe 10000'));
    m.now += 10_000;
  }
  // A heartbeat that nobody has asked for puts nothing off.
  assert.deepEqual(m.control({ hb: 0 }).tookOf('timer probe'), []);
  m.timer('probe').took();
  m.control({ ack: 1 }).took();
  m.now += 1500;
  assert.deepEqual(m.timer('probe').took(), [], 'nothing is under way any more');
  assert.ok(m.send('y').took().includes('timer probe 3000'));
  // Nor is there anything to ask where the server does not answer.
  assert.deepEqual(open().send('x').tookOf('timer probe'), []);
});

test('a slow network has the time that its load takes, and a stalled page a second chance', () => {
  const slow = asking('x'.repeat(8192), { window: { messages: 4, bytes: 1 << 20 } }).timer('probe');
  assert.deepEqual(slow.tookOf('timer'), ['timer probe 3500']);
  const m = asking().timer('probe');
  m.now += 1500;
  m.timer('probe').took();
  // The timer comes a minute late: what has arrived meanwhile is still in the queue.
  m.now += 60_000;
  assert.deepEqual(m.timer('probe', m.now - 55_000).took(), ['timer probe 1000']);
  m.control({ hb: 0 }).took();
  assert.equal(m.state.phase, 'open');
  // What came before the drop is asked about after it, too.
  m.closed(1006).hello({ status: 'resumed', received: 1, ping: true });
  assert.ok(m.took().includes('timer probe 3000'));
});

test('what a page before has left is asked for with its cursor, and sent as a client that holds nothing', () => {
  const saved = { client: 'the-page-before-it', cursor: { session: 's1', epoch: 'e1', attachment: 4 }, position: 7, base: 2, ever: 4, messages: ['c', 'd', 'e'] };
  const m = new Machine({ saved });
  const offers = () => m.tookOf('connect').map((text) => text.split(' ')[2]);
  const asks = (n = 4) => [`at.the-page-before-it.s1.e1.7.${n}`];
  assert.deepEqual(offers(), asks());
  // It has arrived up to and with "c". What the server sends now is not for this page.
  m.hello({ status: 'resumed', from: 7, received: 3, attachment: 5 });
  assert.deepEqual(m.took().filter((text) => /^(write|close|status (open|resumed)|deliver)/.test(text)), ['close 1000']);
  assert.equal(m.state.kept, 'fresh');
  // Lost in between: asked again, for the server may have forgotten this client by then.
  m.closed(1006);
  assert.deepEqual(m.timer('retry').tookOf('connect'), ['connect session-resume.v1 at.the-page-before-it.s1.e1.7.5']);
  m.hello({ status: 'resumed', from: 7, received: 3, attachment: 6 });
  assert.deepEqual(offers(), ['at.the-page-before-it']);
  m.hello({ status: 'reused', from: 5, received: 3, attachment: 7 });
  assert.deepEqual(m.tookOf('write'), ['write ^{"ack":5}', 'write d', 'write e']);
  m.control({ ack: 5 });
  assert.equal(m.state.outbox.length, 0);
  assert.equal(m.state.kept, null);
  m.closed(1006);
  assert.deepEqual(offers().slice(-1), ['at.the-page-before-it.s1.e1.5.7'], 'from then on a client as any other');

  // Forgotten: what was written is in doubt, and the rest is new.
  const other = new Machine({ saved });
  other.took();
  other.hello({ status: 'reused', from: 7, received: null, attachment: 5 });
  assert.deepEqual(other.tookOf('status lost'), ['status lost {"messages":["c","d"],"reason":"in doubt"}']);
  other.hello({ status: 'reused', from: 7, received: 0, attachment: 6 });
  assert.deepEqual(other.tookOf('write'), ['write ^{"ack":7}', 'write e']);
});

test('a wait says what the server has said', () => {
  const restarting = open().control({ retry: 500 }).closed(4112, 'restarting');
  assert.deepEqual(restarting.tookOf('status'), ['status waiting {"attempt":2,"delay":0.75,"until":"time","kind":"restarting","reason":"restarting"}']);
  const prompted = open({ machine: { reconnect: 'prompt' } }).closed(4113, 'try again later');
  assert.deepEqual(prompted.tookOf('status'), ['status waiting {"attempt":2,"delay":null,"until":"user","kind":"try-again","reason":"try again later"}']);
  const hidden = open().do({ type: 'hidden' }).closed(1006, 'nothing of the server’s');
  assert.deepEqual(hidden.tookOf('status'), ['status waiting {"attempt":2,"delay":null,"until":"visible"}']);
});

test('the waits grow while a transport brings nothing new', () => {
  const m = open().send('a').control({ ack: 1 }).frame('x').closed(1006);
  assert.equal(m.state.phase, 'connecting');
  // The server tells the last ack again, and then comes what this browser cannot take.
  const delays = [];
  for (let i = 0; i < 5; i++) {
    m.hello({ status: 'resumed', from: 1, received: 1 }).control({ ack: 1 });
    m.took();
    m.closed(1006);
    delays.push(Number(m.tookOf('timer retry')[0]?.split(' ')[2] ?? 0));
  }
  assert.deepEqual(delays, [250, 500, 1000, 2000, 4000]);
  m.hello({ status: 'resumed', from: 1, received: 1 }).control({ hb: 1 }).closed(1006);
  assert.equal(m.state.phase, 'connecting', 'it held');
});

test('what is longer than the server takes is never written', () => {
  const m = new Machine().send('long').send('ok');
  m.took();
  m.hello({ limit: 3 });
  const took = m.took();
  assert.deepEqual(took.filter((text) => /^write|lost/.test(text)), ['write ^{"ack":0}', 'write ok', 'status lost {"messages":["long"],"reason":"too big"}']);
  assert.deepEqual([m.state.limit, m.state.outboxBytes, m.state.ever], [3, 2, 1]);
  // Another process, which takes less and has not accepted what was written; what was accepted stays.
  m.send('abc').control({ ack: 0 }).closed(1006).hello({ status: 'resumed', received: 1, limit: 1 });
  assert.deepEqual(m.took().filter((text) => /^write|lost/.test(text)).slice(-2), ['write ^{"ack":0}', 'status lost {"messages":["abc"],"reason":"too big"}']);
  assert.deepEqual([m.state.base, m.state.sent, m.state.ever, m.state.outboxBytes], [0, 1, 1, 2]);
  m.closed(1006).hello({ status: 'resumed', received: 1 }).send('anything');
  assert.ok(m.took().includes('write anything'));
});

test('a 1009 without a reason, from a server that has told its limit, is not about our messages', () => {
  const after = (limit, reason) => {
    const m = open({}, limit).send('a').closed(1009, reason).hello({ status: 'resumed', received: 0, ...limit });
    return m.tookOf('status lost').length;
  };
  assert.deepEqual([after({}, ''), after({}, 'message too big'), after({ limit: 9 }, 'message too big'), after({ limit: 9 }, '')], [1, 1, 1, 0]);
});

test('a transport that was open when the network went is replaced when it is back', () => {
  const m = open().do({ type: 'offline' });
  assert.deepEqual(m.took(), ['status offline {}']);
  assert.deepEqual(m.do({ type: 'online' }).took().slice(0, 2), ['close 1000', 'status connecting {"attempt":1}']);
  // Unless it was heard of meanwhile, as with a server on this machine.
  const local = open().do({ type: 'offline' }).frame('x');
  assert.ok(local.tookOf('status').includes('status open {"session":"s1"}'));
  assert.deepEqual(local.do({ type: 'online' }).took(), []);
});

test('an attempt that was under way when the network went is made anew when it is back', () => {
  const m = open().frame('x').closed(1006);
  m.took();
  assert.deepEqual(m.do({ type: 'offline' }).took(), []);
  assert.deepEqual(m.do({ type: 'online' }).tookOf('c'), ['close 1000', `connect session-resume.v1 at.${CLIENT}.s1.e1.1.1`]);
  assert.deepEqual(m.do({ type: 'online' }).took(), [], 'once');
  // It came through after all: one `open`, and nothing to replace.
  m.do({ type: 'offline' }).hello({ status: 'resumed', from: 1 });
  assert.equal(m.tookOf('status open').length, 1);
  assert.deepEqual(m.do({ type: 'online' }).took(), []);
});

test('a server silent for 2.5 heartbeats is dead', () => {
  const m = open();
  m.now += 50_000;
  m.control({ hb: 0 });
  m.now += 25_000;
  assert.deepEqual(m.timer('watch').took(), ['timer watch 50000']);
  m.now += 50_000;
  assert.deepEqual(m.timer('watch').took().slice(0, 2), ['close 1000 silent', 'status connecting {"attempt":1}']);
});

test('a stalled watchdog gives queued frames one more chance', () => {
  const stalled = () => {
    const m = open();
    m.now += 100_000;
    assert.deepEqual(m.timer('watch', m.now - 25_000).took(), ['timer watch 1000']);
    m.now += 1000;
    return m;
  };
  assert.deepEqual(stalled().frame('queued').timer('watch').tookOf('close'), []);
  assert.deepEqual(stalled().timer('watch', 0).tookOf('close'), ['close 1000 silent'], 'one, not many');
  const twice = stalled().frame('queued');
  twice.now += 100_000;
  assert.deepEqual(twice.timer('watch', 0).tookOf('close'), [], 'a second stall is another matter');
});

test('a clock set back does not put the watchdog off', () => {
  const m = open();
  m.now -= 500;
  assert.deepEqual(m.timer('watch').took(), ['timer watch 75000']);
});

test('a page that comes back trusts a silent transport no more', () => {
  for (const event of [{ type: 'visible' }, { type: 'shown', hidden: false }]) {
    const m = open();
    m.now += 75_000;
    assert.deepEqual(m.do(event).took(), []);
    m.now += 1;
    assert.deepEqual(m.do(event).tookOf('close'), ['close 1000']);
    assert.equal(m.state.phase, 'connecting');
  }
});

test('a cached page lets its transport go, and resumes when shown, in every mode', () => {
  for (const reconnect of [true, 'prompt', false]) {
    const m = open({ machine: { reconnect } }).frame('x').do({ type: 'cached' });
    assert.deepEqual(m.tookOf('close'), ['close 1000']);
    m.do({ type: 'shown', hidden: false });
    assert.deepEqual(m.tookOf('connect'), [`connect session-resume.v1 at.${CLIENT}.s1.e1.1.1`], String(reconnect));
  }
});

test('a connection that takes too long is given up, its late success ignored', () => {
  const m = new Machine();
  m.took();
  m.timer('connect');
  assert.deepEqual(m.took(), ['close 1000 silent', 'timer retry 250', 'status waiting {"attempt":2,"delay":0.25,"until":"time"}']);
  m.do({ type: 'opened', n: 1, protocol: 'session-resume.v1' }).control({ hello: HELLO });
  assert.deepEqual(m.took(), []);
});

test('another subprotocol is a failure that says so', () => {
  const m = new Machine().do({ type: 'opened', n: 1, protocol: 'chat' });
  assert.deepEqual(m.tookOf('ended'), ['ended 1002 the server does not speak session-resume.v1']);
});

test('closing waits for acks, then tells what is left', () => {
  const close = { type: 'close', code: 3001, reason: 'bye' };
  const idle = open().do(close);
  assert.deepEqual(idle.took(), ['timer close 2000', 'close 3001']);
  assert.deepEqual(idle.closed(3001, 'bye').took(), ['clearTimers', 'ended 3001 bye']);

  const busy = open().send('a').do(close);
  assert.deepEqual(busy.took(), ['write a', 'timer close 2000']);
  assert.deepEqual(busy.frame('x').tookOf('deliver'), ['deliver x'], 'still listening');
  assert.deepEqual(busy.control({ ack: 1 }).tookOf('close'), ['close 3001']);

  const deaf = open().send('a').do(close);
  deaf.took();
  assert.deepEqual(deaf.timer('close').took(), ['close 3001', 'clearTimers', 'status lost {"messages":["a"],"reason":"closed"}', 'ended 3001 bye']);

  const away = open({ backoff: [5] }).closed(1006).do(close);
  away.took();
  assert.deepEqual(away.timer('close').took(), ['clearTimers', 'ended 3001 bye'], 'never inside the call');
  assert.deepEqual(away.do(close).took(), []);
});

test('reconnect replaces an open transport and leaves a young one alone', () => {
  const m = open().do({ type: 'reconnect', hidden: false, offline: false });
  assert.deepEqual(m.tookOf('c'), ['close 1000', `connect session-resume.v1 at.${CLIENT}.s1.e1.0.1`]);
  m.do({ type: 'reconnect', hidden: false, offline: false });
  assert.deepEqual(m.took(), []);
});

test('a copy of the state is offered behind the first ack of each transport, and before any message', () => {
  const m = new Machine();
  m.do({ type: 'offer', frame: '\u0001{"state":0}' }).send('a').hello({ limit: 100 });
  assert.deepEqual(m.tookOf('write'), ['write ^{"ack":0}', 'write ^{"state":0}', 'write a']);
  m.closed(1006).hello({ status: 'resumed', received: 1, limit: 100 });
  assert.deepEqual(m.tookOf('write'), ['write ^{"ack":0}', 'write ^{"state":0}']);
  // Set while a transport is open, it waits for the next; taken back, it is not offered.
  m.do({ type: 'offer', frame: '\u0001{"state":1}' });
  assert.deepEqual(m.took(), []);
  m.do({ type: 'offer', frame: null }).closed(1006).hello({ status: 'resumed', received: 1, limit: 100 });
  assert.deepEqual(m.tookOf('write'), ['write ^{"ack":0}']);
});

test('a copy of the state that is longer than the server takes, or may be, is not offered, and the page is told', () => {
  for (const limit of [10, undefined]) {
    const m = new Machine();
    m.do({ type: 'offer', frame: '\u0001{"state":0}' }).hello({ limit });
    assert.deepEqual(m.took().slice(-2), ['status new {"session":"s1","gap":null}', 'status unoffered {}'], limit);
    assert.equal(m.state.copy, null);
  }
});

test('a 1009 behind a copy of the state takes the copy out, not a message', () => {
  const m = new Machine();
  m.do({ type: 'offer', frame: '\u0001{"state":0}' }).send('a').hello({ limit: 100 });
  m.took();
  m.closed(1009, 'message too big');
  assert.deepEqual(m.tookOf('status').slice(0, 1), ['status unoffered {}']);
  m.hello({ status: 'resumed', limit: 100 });
  assert.deepEqual(m.tookOf('write'), ['write ^{"ack":0}', 'write a']);
  // Without the copy the next one tells: it was the message.
  m.closed(1009, 'message too big').hello({ status: 'resumed', limit: 100 });
  assert.deepEqual(m.tookOf('status lost'), ['status lost {"messages":["a"],"reason":"too big"}']);
});

/** A machine that asks before its queue goes to another session. */
function meeting(...queue) {
  const m = new Machine();
  for (const data of queue) m.send(data);
  return m.do({ type: 'queue', messages: m.state.outbox, hold: 'next' });
}
const queueOf = (...texts) => texts.map((data) => ({ data, bytes: data.length }));
const EXPIRED = { session: 's2', epoch: 'e9', gap: { from: 0, to: null, reason: 'expired' } };

test('the queue goes to another session once the application has had its say, and behind all that is told', () => {
  const m = meeting('a', 'b').hello({ window: { messages: 2, bytes: 100 } });
  assert.deepEqual(m.took().slice(3), [
    'write ^{"ack":0}', 'timer ack 30000', 'timer watch 75000', 'opened', 'status open {"session":"s1"}', 'status new {"session":"s1","gap":null}', 'session',
  ]);
  assert.deepEqual(m.send('c').took(), [], 'what is sent meanwhile waits its turn');
  m.do({ type: 'queue', messages: queueOf('first', 'b', 'c'), hold: 'next' });
  assert.deepEqual(m.took(), ['write first', 'write b'], 'as much as the window takes');
  assert.equal(m.state.outboxBytes, 7);
  m.control({ ack: 1 });
  assert.deepEqual(m.took(), ['write c']);
  m.closed(1006).hello(EXPIRED);
  assert.deepEqual(m.took().slice(-4), [
    'status new {"session":"s2","gap":{"from":0,"to":null,"reason":"expired"}}', 'status expired {"gap":{"from":0,"to":null,"reason":"expired"}}',
    'status lost {"messages":["b","c"],"reason":"in doubt"}', 'session',
  ]);
});

test('a session that this page has been in is no other: the queue goes on at once', () => {
  for (const hello of [{ status: 'resumed', received: 1 }, { status: 'restored', epoch: 'e2', received: 1 }, { status: 'restored', epoch: 'e2', received: 0 }]) {
    const m = meeting().hello().do({ type: 'queue', messages: [], hold: 'next' }).send('a').control({ ack: 1 }).closed(1006).send('b');
    m.took();
    assert.deepEqual(m.hello(hello).took().filter((text) => /^(write b|session)/.test(text)), ['write b'], JSON.stringify(hello));
  }
  // But one that does not know the page any more is.
  const m = meeting().hello().do({ type: 'queue', messages: [], hold: 'next' }).closed(1006).send('b');
  m.took();
  assert.deepEqual(m.hello({ status: 'reused', received: null }).took().filter((text) => /^(write b|session)/.test(text)), ['session']);
});

test('another queue takes the place of what was never written, and of nothing else', () => {
  const m = open({}, { window: { messages: 2, bytes: 100 } });
  for (const data of ['a', 'b', 'c', 'd']) m.send(data);
  m.control({ ack: 1 }).closed(1006);
  m.took();
  m.do({ type: 'queue', messages: queueOf('x'), hold: null });
  assert.deepEqual(m.state.outbox.map(({ data }) => data), ['b', 'c', 'x']);
  assert.deepEqual(m.took(), [], 'there is no transport');
  m.hello({ status: 'resumed', received: 1, window: { messages: 9, bytes: 100 } });
  assert.deepEqual(m.tookOf('write').slice(1), ['write b', 'write c', 'write x']);
});

test('closed while the application is asked: what was sent goes out first', () => {
  const m = meeting('a').hello();
  m.took();
  m.do({ type: 'close', code: 1000, reason: '' });
  assert.deepEqual(m.took(), ['timer close 2000']);
  m.do({ type: 'queue', messages: queueOf('a'), hold: 'next' });
  assert.deepEqual(m.took(), ['write a']);
  assert.deepEqual(m.control({ ack: 1 }).took(), ['close 1000']);
});

test('connected again while the application is asked: the queue goes out on the next transport', () => {
  const m = meeting('a').hello().do({ type: 'reconnect', hidden: false, offline: false }).do({ type: 'queue', messages: queueOf('b'), hold: 'next' });
  assert.deepEqual(m.tookOf('write').slice(1), [], 'not before a hello');
  m.hello({ status: 'resumed', received: 0 });
  assert.deepEqual(m.took().filter((text) => /^(write [ab]|session)/.test(text)), ['write b']);
});
