// Shows what the nodes do, and does to them what the buttons say.

const EVERY = 500;
const state = document.getElementById('state');
const place = document.getElementById('nodes');
/** @type {Map<string, ReturnType<typeof card>>} */
const cards = new Map();

function element(name, text = '') {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function card(name) {
  const [section, title, doing, facts, buttons] = ['section', 'h2', 'span', 'dl', 'div'].map((tag) => element(tag));
  title.append(`Node ${name} `, doing);
  buttons.className = 'buttons';
  const values = {};
  for (const fact of ['owns', 'relays', 'lease']) {
    values[fact] = element('dd');
    facts.append(element('dt', fact), values[fact]);
  }
  const deeds = {};
  for (const deed of ['kill', 'pause', 'resume', 'drain', 'start']) {
    deeds[deed] = element('button', deed);
    deeds[deed].setAttribute('aria-label', `${deed} node ${name}`);
    deeds[deed].addEventListener('click', () => act(name, deed));
    buttons.append(deeds[deed]);
  }
  section.append(title, facts, buttons);
  place.append(section);
  return { section, doing, values, deeds };
}

function show({ name, doing, about, deeds: possible }) {
  if (!cards.has(name)) cards.set(name, card(name));
  const { section, doing: word, values, deeds } = cards.get(name);
  section.dataset.doing = doing;
  word.textContent = doing;
  const { owns, attached, relays, lease, is_ready: ready } = about ?? {};
  values.owns.textContent = about ? `${owns} (${attached} connected)` : '–';
  values.relays.textContent = about ? relays : '–';
  values.lease.textContent = about ? `${lease}${ready ? '' : ', takes no clients'}` : 'does not answer';
  for (const [deed, button] of Object.entries(deeds)) button.disabled = !possible.includes(deed);
}

async function act(name, deed) {
  const answer = await fetch(`nodes/${name}/${deed}`, { method: 'POST' });
  if (!answer.ok && answer.status !== 409) tell(`${deed} node ${name}: ${(await answer.text()) || answer.status}`);
  await look();
}

function tell(trouble) {
  state.toggleAttribute('data-bad', trouble !== '');
  const text = trouble || 'Live.';
  if (state.textContent !== text) state.textContent = text;
}

async function look() {
  try {
    const answer = await fetch('nodes');
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    (await answer.json()).forEach(show);
    tell('');
  } catch {
    tell('This page does not reach its program any more.');
  }
}

for (;;) {
  await look();
  await new Promise((done) => setTimeout(done, EVERY));
}
