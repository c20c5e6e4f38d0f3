// The page of the monitor: asks for the JSON beside this file, and shows it.
//
// What comes from the server goes into the page as text and numbers, never as HTML.

/** Where the monitor is mounted. */
const HERE = new URL('.', import.meta.url);
const EVERY = 2000;
/** What takes the server long is asked for less often: it is then busy for us a tenth of the time at most. */
const IDLE = 10;
const LONGEST = 30_000;
/** An answer that takes longer is none. */
const PATIENCE = 10_000;
const TYPED = 250;
const ID = /^[0-9a-f-]{36}$/;

const $ = (id) => document.getElementById(id);

// What is looked at.

/** The `after` of each page up to this one. */
let pages = [''];
let nextPage;
/** The id of the session that is shown, or '' for all. */
let one = '';

// Asking.

/** The guard, or what stands before it, does not let us in. */
class Refused extends Error {}

/** Asks for a path of the monitor; returns the response where it is one of the statuses that are expected. */
async function ask(path, { expected = [], ...options }) {
  const response = await fetch(new URL(path, HERE), { redirect: 'manual', cache: 'no-store', ...options });
  if (response.ok || expected.includes(response.status)) return response;
  if (response.type === 'opaqueredirect') throw new Refused('it sends elsewhere, perhaps to sign in');
  if ([401, 403, 404].includes(response.status)) throw new Refused(`status ${response.status}`);
  throw new Error(`status ${response.status}`);
}

let timer;
let asking;
/** When an answer came last. */
let reached = new Date();

/** Asks now, and from then on again and again while the page is in sight. */
async function poll() {
  clearTimeout(timer);
  asking?.abort();
  asking = undefined;
  if (document.hidden) return;
  const mine = (asking = new AbortController());
  const began = performance.now();
  let wait = EVERY;
  try {
    const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(PATIENCE)]);
    const wanted = one ? `sessions/${one}` : `sessions?${query()}`;
    const [overview, response] = await Promise.all([
      ask('overview', { signal }).then((response) => response.json()),
      ask(wanted, { signal, expected: one ? [404] : [400] }),
    ]);
    const answer = response.ok ? await response.json() : await response.text();
    if (mine !== asking) return;
    wait = Math.min(LONGEST, Math.max(EVERY, IDLE * (performance.now() - began)));
    reached = new Date();
    show(overview, response.ok, answer);
    tell('live', 'Live', `as of ${clock(reached)}`);
  } catch (error) {
    if (mine !== asking) return;
    if (error instanceof Refused) tell('refused', 'The guard refused this page', `(${error.message}). Reload it to sign in again.`);
    else tell('old', `Not reached since ${clock(reached)}`, '');
  }
  timer = setTimeout(poll, wait);
}

function query() {
  const asked = { search: $('search').value.trim(), phase: $('phase').value, sort: $('sort').value, after: pages.at(-1) };
  return new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
}

/** Says where we stand. Only the first words are read out, and only when they change. */
function tell(state, words, note) {
  text($('state'), words);
  $('state').dataset.state = state;
  text($('when'), note);
  $('main').toggleAttribute('data-old', state !== 'live');
}

// Showing.

function show(overview, ok, answer) {
  $('main').hidden = false;
  $('all').hidden = one !== '';
  $('one').hidden = one === '';
  if (one) return showOne(ok ? answer : null);
  showOverview(overview);
  $('wrong').hidden = ok;
  if (ok) showList(answer);
  else text($('wrong'), answer);
}

function showOverview({ sessions, minutes, guards, other_guards: others, ends, ready, now_ms: now }) {
  const all = {
    ...sessions,
    outbox: [count(sessions.outbox_messages), bytes(sessions.outbox_bytes)],
    inbox: count(sessions.inbox_messages),
    oldest: lasted(sessions.oldest_ms),
    ready: ready ? 'taken' : 'refused',
  };
  for (const place of document.querySelectorAll('[data-is]')) {
    const [value, more] = [all[place.dataset.is]].flat();
    fill(place, typeof value === 'number' ? count(value) : value, more && ['small', more]);
  }
  document.querySelector('[data-is="ready"]').toggleAttribute('data-bad', !ready);

  plot('attaches', minutes, { new: 'a', resumed: 'b', reused: 'c', restored: 'd' });
  plot('replayed', minutes, { replayed: 'b' });
  plot('gaps', minutes, { gaps: 'bad' });
  plot('lives', minutes, { started: 'a', ended: 'c' });

  const held = others > 0 ? [...guards, { reason: 'other reasons', count: others }] : guards;
  rows($('guards'), held, 'No guard is held.', ({ reason }) => reason, 2, ({ reason, count: held }, [why, number]) => {
    why.className = 'text';
    text(why, reason);
    figures(number, count(held));
  });
  rows($('ends'), ends, 'None yet.', ({ id }) => id, 4, (end, [session, how, why, when]) => {
    link(session, end.id);
    text(how, end.status);
    text(why, end.reason ?? '');
    figures(when, `${lasted(now - end.at_ms)} ago`);
    when.title = new Date(end.at_ms).toISOString();
  });
}

function showList({ sessions, next, matched, total }) {
  rows($('list'), sessions, 'No session.', ({ id }) => id, 9, (line, cells) => {
    const [session, phase, age, transports, outbox, inbox, key, identity, guards] = cells;
    link(session, line.id);
    fill(phase, line.phase, line.waits_for_store && ['small', ' unsaved']);
    figures(age, lasted(line.age_ms));
    figures(transports, count(line.transports), 'wide');
    figures(outbox, line.outbox_messages ? `${count(line.outbox_messages)} · ${bytes(line.outbox_bytes)}` : '0');
    figures(inbox, count(line.inbox_messages));
    hash(key, line.key);
    hash(identity, line.identity);
    guards.className = 'wide';
    text(guards, line.guards.join(', '));
  });
  nextPage = next;
  const first = pages.length > 1 ? `Page ${pages.length}. ` : '';
  text($('found'), matched === total ? `${first}${count(total)} sessions.` : `${first}${count(matched)} of ${count(total)} sessions.`);
  $('previous').disabled = pages.length === 1;
  $('next').disabled = next === undefined;
}

function showOne(it) {
  text($('one-title').querySelector('code'), one);
  $('gone').hidden = it !== null;
  $('details').hidden = it === null;
  if (it === null) return;
  const { outcome } = it;
  const all = {
    phase: it.phase,
    age: lasted(it.age_ms),
    outbox: `${count(it.outbox_messages)} messages, ${bytes(it.outbox_bytes)}`,
    inbox: `${count(it.inbox_messages)} messages`,
    observers: count(it.observers),
    store: it.waits_for_store ? 'waits to be stored' : 'nothing waits',
    key: `${it.key}${it.shared ? ' (shared)' : ''}`,
    identity: it.identity,
    generation: count(it.generation),
    node: it.node ?? '–',
    guards: it.guards.join(', ') || '–',
    outcome: outcome ? [outcome.status, outcome.reason].filter(Boolean).join(': ') : '–',
  };
  for (const place of document.querySelectorAll('[data-of]')) text(place, all[place.dataset.of]);
  rows($('clients'), it.clients, 'No client is attached.', (client, at) => `${client.client} ${client.identity} ${at}`, 5, (client, cells) => {
    const [name, identity, transport, attached, trip] = cells;
    fill(name, client.client ?? 'plain', client.read_only && ['small', ' read-only']);
    hash(identity, client.identity, '');
    text(transport, client.transports === 1 ? client.transport : `${client.transport} ×${client.transports}`);
    figures(attached, lasted(client.attached_ms));
    figures(trip, client.round_trip_ms === undefined ? '–' : `${client.round_trip_ms.toPrecision(2)} ms`);
  });
  $('ending').hidden = Boolean(outcome);
}

/** Draws a bar for each minute; `parts` are the fields that it is made of, from below, with their colours. */
function plot(name, minutes, parts) {
  const figure = $(`plot-${name}`);
  const svg = figure.querySelector('svg');
  const fields = Object.entries(parts);
  svg.setAttribute('viewBox', `0 0 ${minutes.length} 100`);
  svg.setAttribute('preserveAspectRatio', 'none');
  while (svg.childElementCount < minutes.length * fields.length) {
    svg.append(document.createElementNS('http://www.w3.org/2000/svg', 'rect'));
  }
  const sum = (minute) => fields.reduce((sum, [field]) => sum + minute[field], 0);
  const most = Math.max(...minutes.map(sum));
  let at = 0;
  minutes.forEach((minute, x) => {
    let top = 100;
    for (const [field, colour] of fields) {
      const height = most === 0 ? 0 : (minute[field] / most) * 100;
      const rect = svg.children[at++];
      rect.setAttribute('class', colour);
      for (const [key, value] of Object.entries({ x: x + 0.1, y: (top -= height), width: 0.8, height })) rect.setAttribute(key, value);
    }
  });
  const totals = fields.map(([field, colour]) => {
    const total = count(minutes.reduce((sum, minute) => sum + minute[field], 0));
    return ['i', fields.length > 1 ? `${field} ${total}` : `${total} in all`, colour];
  });
  fill(figure.querySelector('span'), '', ...totals, ['small', `at most ${count(most)} a minute`]);
  const words = [...figure.querySelectorAll('b, i, small')].map(({ textContent }) => textContent);
  svg.setAttribute('aria-label', words.join(', '));
}

// Parts of the page. What has not changed is left alone: so a selection and the focus stay where they are.

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Sets an element's text, and behind it parts: name, text and class of an element. */
function fill(element, value, ...parts) {
  const wanted = parts.filter(Boolean);
  const same = element.textContent === value + wanted.map(([, part]) => part).join('');
  if (same && element.childElementCount === wanted.length) return;
  const made = wanted.map(([name, part, colour = '']) => Object.assign(document.createElement(name), { textContent: part, className: colour }));
  element.replaceChildren(value, ...made);
}

function figures(cell, value, more = '') {
  cell.className = `number ${more}`;
  text(cell, value);
}

function hash(cell, value, width = 'wide') {
  cell.className = width;
  fill(cell, '', ['code', value]);
}

/** A session's short id, which leads to it. */
function link(cell, id) {
  let to = cell.querySelector('a');
  if (!to) cell.append((to = document.createElement('a')));
  text(to, id.slice(0, 8));
  to.href = `#${id}`;
  to.title = id;
}

/** Makes a table's rows those of a list. A row stays the same element while its key is in the list. */
function rows(body, list, none, keyOf, width, show) {
  const had = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const wanted = list.map((item, at) => {
    const key = keyOf(item, at);
    let row = had.get(key);
    if (!row) {
      row = document.createElement('tr');
      row.dataset.key = key;
      for (let cell = 0; cell < width; cell++) row.append(document.createElement('td'));
    }
    had.delete(key);
    show(item, [...row.children]);
    return row;
  });
  if (wanted.length === 0) {
    const cell = Object.assign(document.createElement('td'), { className: 'none', colSpan: width, textContent: none });
    const row = document.createElement('tr');
    row.append(cell);
    wanted.push(row);
  }
  for (const row of had.values()) row.remove();
  wanted.forEach((row, at) => body.children[at] !== row && body.insertBefore(row, body.children[at] ?? null));
}

const count = (number) => number.toLocaleString('en');

function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, number)) / 10));
  const value = number / 1024 ** step;
  return `${step > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

function lasted(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

const clock = (date) => [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');

// What the operator does.

function turn(to) {
  pages = to;
  poll();
}

let typing;
$('form').addEventListener('submit', (event) => {
  event.preventDefault();
  clearTimeout(typing);
  turn(['']);
});
$('search').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(turn, TYPED, ['']);
});
for (const id of ['phase', 'sort']) $(id).addEventListener('change', () => turn(['']));
$('previous').addEventListener('click', () => turn(pages.slice(0, -1)));
$('next').addEventListener('click', () => nextPage && turn([...pages, nextPage]));

/** Whether the question is open, whether to end the session. */
function question(open) {
  $('confirm').hidden = !open;
  $('end').hidden = open;
}

$('end').addEventListener('click', () => {
  question(true);
  $('reason').focus();
});
$('cancel').addEventListener('click', () => {
  question(false);
  $('end').focus();
});
$('confirm').addEventListener('keydown', (event) => event.key === 'Escape' && $('cancel').click());
$('confirm').addEventListener('submit', async (event) => {
  event.preventDefault();
  const [id, reason] = [one, $('reason').value.trim()];
  question(false);
  let said;
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const path = `sessions/${id}/end${reason && `?${new URLSearchParams({ reason })}`}`;
    const response = await ask(path, { method: 'POST', signal, expected: [404, 409] });
    said = { 200: 'The session has been ended.', 409: 'It had ended before.', 404: 'There is no such session.' }[response.status];
  } catch (error) {
    said = `It is not known whether the session has ended: ${error instanceof Refused ? `refused (${error.message})` : 'the server was not reached'}.`;
  }
  if (id !== one) return;
  text($('said'), said);
  $('one-title').focus();
  poll();
});

/** Shows the session that the address names, or all. */
function go() {
  const id = location.hash.slice(1);
  const before = one;
  one = ID.test(id) ? id : '';
  text($('said'), '');
  $('reason').value = '';
  question(false);
  text($('one-title').querySelector('code'), one);
  // Nothing of another session is shown under this one's id.
  $('details').hidden = $('gone').hidden = true;
  $('one').hidden = one === '';
  $('all').hidden = one !== '';
  if (one) $('one-title').focus();
  else if (before) $('list').querySelector(`[data-key="${before}"] a`)?.focus();
  poll();
}

addEventListener('hashchange', go);
document.addEventListener('visibilitychange', poll);
go();
