// The hooks, in React's own renderer: how many sockets there are, and what the components are shown.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { React, renderToString, Stage, act, h, useResumableSocket, useSession } from './support/react.mjs';

/** A component with a socket; `seen` gets what each of its renders had. */
function Live({ url = '/live', options, seen, children }) {
  const socket = useResumableSocket(url, options);
  const view = useSession(socket);
  seen?.push({ socket, view });
  return h('p', null, `${view.status?.status ?? 'none'} ${view.readyState}`, children?.(socket));
}

/** What a hook has left in the page. */
const listeners = ({ page }) => ['pagehide', 'pageshow', 'online', 'offline'].flatMap((type) => getEventListeners(page.window, type));

for (const strict of [false, true]) {
  const wrap = (element) => (strict ? h(React.StrictMode, null, element) : element);
  const mode = strict ? 'StrictMode' : 'React';

  test(`${mode}: one socket for a component, however often it is rendered`, async () => {
    const stage = new Stage();
    const seen = [];
    // The options are made anew by each render, and so are the functions in them.
    const element = (n) => wrap(h(Live, { seen, options: { ...stage.options, backoff: [1, 2], onMessage: () => n } }));
    await stage.render(element(1));
    assert.equal(stage.text, 'open 1');
    const { socket } = seen.at(-1);
    for (let n = 2; n < 6; n++) await stage.render(element(n));
    assert.deepEqual([stage.made, stage.links.length], [1, 1]);
    assert.equal(seen.at(-1).socket, socket);
    assert.equal(socket.readyState, 1);
    await stage.unmount();
    assert.equal(socket.readyState, 3);
    assert.deepEqual(stage.errors, []);
  });

  test(`${mode}: a component that goes away closes its socket, and hears no more`, async () => {
    const stage = new Stage();
    const seen = [];
    const called = [];
    const on = Object.fromEntries(['Open', 'Message', 'Status', 'Session', 'Error', 'Close'].map((name) => [`on${name}`, (event) => called.push(event.type)]));
    await stage.render(wrap(h(Live, { seen, options: { ...stage.options, ...on } })));
    assert.deepEqual(called, ['open', 'status', 'status', 'session']);
    const before = called.length;
    const [link] = stage.links;
    assert.ok(listeners(stage).length > 0);
    await stage.unmount();
    stage.world.server.push('late');
    await stage.pass();
    assert.deepEqual(link.closedWith, [1000, '']);
    assert.equal(seen.at(-1).socket.readyState, 3);
    assert.equal(called.length, before, called.join());
    assert.deepEqual(listeners(stage), [], 'nothing of it is left in the page');
    assert.deepEqual([stage.made, stage.links.length], [1, 1]);
  });

  test(`${mode}: no socket until it is enabled, and none after it is not`, async () => {
    const stage = new Stage();
    const seen = [];
    const show = (enabled) => stage.render(wrap(h(Live, { seen, options: { ...stage.options, enabled } })));
    await show(false);
    assert.deepEqual([stage.text, stage.made], ['none null', 0]);
    await show(true);
    assert.deepEqual([stage.text, stage.made], ['open 1', 1]);
    const first = seen.at(-1).socket;
    await show(false);
    assert.deepEqual([stage.text, stage.made, first.readyState], ['none null', 1, 3]);
    seen.length = 0;
    await show(true);
    assert.deepEqual([stage.text, stage.made], ['open 1', 2]);
    assert.ok(!seen.some(({ socket }) => socket === first), 'the closed one is never shown again');
    assert.notEqual(seen.at(-1).view.session, null);
  });

  test(`${mode}: another URL is another socket, and the old one is closed`, async () => {
    const stage = new Stage();
    const seen = [];
    const show = (url) => stage.render(wrap(h(Live, { url, seen, options: stage.options })));
    await show('/rooms/1');
    const first = seen.at(-1).socket;
    seen.length = 0;
    await show('/rooms/2');
    const second = seen.at(-1).socket;
    assert.deepEqual(stage.links.map(({ url }) => url), ['ws://example.test/rooms/1', 'ws://example.test/rooms/2']);
    assert.deepEqual(stage.links[0].closedWith, [1000, '']);
    assert.deepEqual([first.readyState, second.readyState, stage.made], [3, 1, 2]);
    assert.ok(!seen.some(({ socket }) => socket === first), 'no render with the new URL has the old socket');
    assert.equal(seen[0].socket, null);
    // The same address is the same socket.
    await show(new URL('http://example.test/rooms/2').pathname);
    assert.equal(seen.at(-1).socket, second);
  });
}

test('the effects of one render never have two open sockets', async () => {
  const stage = new Stage();
  const open = [];
  const look = () => open.push(stage.links.filter(({ readyState }) => readyState < 2).length);
  for (const url of ['/a', '/b', '/a', '/c']) {
    await stage.render(h(Live, { url, options: { ...stage.options, onStatus: look } }));
    look();
  }
  assert.equal(Math.max(...open), 1);
  assert.equal(stage.made, 4);
});

test('an option with another value is another socket; order, undefined and functions are not', async () => {
  const stage = new Stage();
  const show = (options) => stage.render(h(Live, { options: { ...stage.options, ...options } }));
  await show({ backoff: { initial: 1, max: 2 }, maxBufferedBytes: 10 });
  await show({ maxBufferedBytes: 10, backoff: { initial: 1, max: 2 }, connectTimeout: undefined });
  await show({ maxBufferedBytes: 10, backoff: { initial: 1, max: 2 }, headers: { a: 'b' }, credentials: 'omit', onOpen() {} });
  assert.equal(stage.made, 1);
  await show({ maxBufferedBytes: Infinity });
  assert.equal(stage.made, 2);
  // The default.
  await show({ maxBufferedBytes: null });
  assert.equal(stage.made, 3);
  await show({});
  assert.equal(stage.made, 4);
  await show({ initial: () => 'hello' });
  assert.equal(stage.made, 5);
  await show({ initial: () => 'another' });
  assert.equal(stage.made, 5);
});

test('each event calls the function of the last render', async () => {
  const stage = new Stage();
  const got = [];
  const show = (name) => stage.render(h(Live, { options: { ...stage.options, onMessage: ({ data }, socket) => got.push(`${name} ${data} ${socket.readyState}`) } }));
  await show('first');
  stage.world.server.push('1');
  await stage.pass();
  await show('second');
  stage.world.server.push('2');
  await stage.pass();
  assert.deepEqual(got, ['first 1 1', 'second 2 1']);
});

test('a URL that is a function is asked for each attempt, as it is then', async () => {
  const stage = new Stage();
  const show = (ticket) => stage.render(h(Live, { url: async (attempt) => `/live?ticket=${ticket}${attempt}`, options: stage.options }));
  await show('a');
  await show('b');
  assert.equal(stage.made, 1);
  stage.links[0].cut();
  await stage.pass(2000);
  assert.deepEqual(stage.links.map(({ url }) => url), ['ws://example.test/live?ticket=a1', 'ws://example.test/live?ticket=b2']);
});

test('what is sent and received through drops is exactly what was meant', async () => {
  const stage = new Stage();
  const got = [];
  let socket;
  await stage.render(h(Live, { options: { ...stage.options, onMessage: ({ data }) => got.push(data) }, children: (made) => void (socket = made) }));
  socket.send('1');
  stage.world.up = false;
  stage.links[0].cut({ client: 5 });
  stage.world.server.push('a');
  await stage.pass(2000);
  assert.match(stage.text, /^(waiting|connecting) 1$/);
  socket.send('2');
  stage.world.up = true;
  await stage.pass(60_000);
  assert.equal(stage.text, 'open 1');
  for (const id of stage.world.server.session.clients.keys()) while (stage.world.server.take(id));
  assert.deepEqual([stage.taken, got], [['1', '2'], ['a']]);
  assert.equal(stage.made, 1);
});

test('the session’s state is shown, and a render comes only where it changes', async () => {
  const stage = new Stage();
  const seen = [];
  await stage.render(h(Live, { seen, options: stage.options }));
  const { view, socket } = seen.at(-1);
  assert.deepEqual({ ...view, status: view.status.status }, { readyState: 1, status: 'open', session: socket.session, transport: 'websocket', lifetime: socket.lifetime });
  assert.ok(view.session && view.lifetime > 0);
  const renders = seen.length;
  stage.world.server.push('a message');
  await stage.pass();
  assert.equal(seen.length, renders, 'a message is none of it');
  await act(async () => socket.dispatchEvent(Object.assign(new Event('status'), { status: 'gap' })));
  assert.equal(seen.length, renders, 'nor is a moment');
  stage.world.up = false;
  stage.links[0].cut();
  await stage.pass(3000);
  const away = seen.at(-1).view;
  assert.deepEqual([away.transport, away.readyState, away.session], [null, 1, view.session]);
  assert.notEqual(away.status.status, 'open');
  await act(async () => socket.close());
  stage.world.up = true;
  await stage.pass(10_000);
  assert.equal(seen.at(-1).view.readyState, 3);
});

/** Shows a socket's state; `commits` gets what all of them show whenever React has changed the page. */
function View({ socket, name, shown, commits }) {
  const { status, readyState } = useSession(socket);
  const text = `${status?.status ?? 'none'} ${readyState}`;
  React.useLayoutEffect(() => {
    shown.set(name, text);
    return () => void shown.delete(name);
  });
  React.useLayoutEffect(() => void commits.push([...shown.values()].join()));
  return h('i', null, text);
}

test('components that are rendered before and after an event show the same', async () => {
  const stage = new Stage();
  const socket = stage.world.connect({}, stage.page);
  const shown = new Map();
  const commits = [];
  await stage.render([]);
  assert.equal(socket.current.status, 'open');
  let before = true;
  /** What happens between two parts of a render. */
  const Drop = () => {
    if (before) {
      before = false;
      stage.links[0].cut();
      stage.world.advance(50);
    }
  };
  const view = (name) => h(View, { key: name, name, socket, shown, commits });
  await stage.renderInParts([view('a'), h(Drop, { key: 'drop' }), view('b')]);
  assert.equal(before, false);
  assert.notEqual(socket.current.status, 'open');
  assert.ok(commits.length > 0);
  for (const texts of commits) assert.doesNotMatch(texts, /open/, commits.join(' | '));
  assert.equal(new Set(shown.values()).size, 1);
  socket.close();
});

test('a component that comes later shows what the others show', async () => {
  const stage = new Stage();
  let socket;
  const shown = new Map();
  const commits = [];
  const live = h(Live, { key: 'live', options: stage.options, children: (made) => void (socket = made) });
  const view = (name) => h(View, { key: name, name, socket, shown, commits });
  await stage.render([live]);
  await stage.render([live, view('a')]);
  // Nothing tells of this: the getter has changed, and no event has come.
  socket.send('something, so that it waits');
  socket.close();
  assert.equal(socket.readyState, 2);
  await stage.renderInParts([live, view('a'), view('b')]);
  assert.deepEqual(new Set(shown.values()), new Set(['open 1']));
  await stage.pass(10_000);
  assert.equal(socket.readyState, 3);
  assert.equal(new Set(shown.values()).size, 1, [...shown.values()].join());
  assert.match(shown.get('b'), / 3$/);
});

test('a component that is hidden has no socket, and another one when it is shown again', async () => {
  const stage = new Stage();
  const seen = [];
  const show = (mode) => stage.render(h(React.Activity, { mode }, h(Live, { seen, options: stage.options })));
  await show('visible');
  const first = seen.at(-1).socket;
  await show('hidden');
  assert.equal(first.readyState, 3);
  seen.length = 0;
  await show('visible');
  assert.deepEqual([stage.made, seen.at(-1).socket.readyState], [2, 1]);
  assert.ok(!seen.some(({ socket }) => socket === first), 'the closed one is never shown again');
});

class Boundary extends React.Component {
  state = { error: null };
  static getDerivedStateFromError = (error) => ({ error });
  render() {
    return this.state.error ? `caught ${this.state.error.message}` : this.props.children;
  }
}

test('a bad URL or option reaches an error boundary, and a good one works after it', async () => {
  const stage = new Stage();
  for (const [props, text] of [
    [{ url: 'ftp://example.test/' }, /caught/],
    [{ options: { ...stage.options, initial: 7 } }, /caught initial must be a function/],
    [{ url: '/live' }, /^open 1$/],
  ]) {
    await stage.render(h(Boundary, { key: String(text) }, h(Live, { options: stage.options, ...props })));
    assert.match(stage.text, text);
  }
  assert.equal(stage.links.length, 1);
});

test('a server renders no socket, and the page that takes its HTML over makes one', async () => {
  const stage = new Stage();
  const element = h(Live, { options: stage.options });
  const html = renderToString(element);
  assert.deepEqual([html, stage.made], ['<p>none null</p>', 0]);
  await stage.hydrate(html, element);
  assert.deepEqual(stage.errors, [], 'the page has rendered the same');
  assert.deepEqual([stage.text, stage.made], ['open 1', 1]);
});

test('useSession takes a socket of the application’s own', async () => {
  const stage = new Stage();
  const socket = stage.world.connect({}, stage.page);
  const seen = [];
  const Own = () => {
    seen.push(useSession(socket));
  };
  await stage.render(h(Own));
  assert.deepEqual([seen.at(-1).status.status, seen.at(-1).session], ['open', socket.session]);
  await stage.unmount();
  assert.equal(socket.readyState, 1, 'whoever made it closes it');
  socket.close();
});
