import { ResumableSocket } from "./session-resume.js";
import { notify } from "./session-resume-notify.js";

/** How long "Drop connection" stays away, so that there is something to miss. */
const DROP_MS = 6000;
/** The session of the last run that this browser saw; its outcome can be asked for when the page is long gone. */
const LAST = "agent-session";

const $ = (id) => document.getElementById(id);

/** Until then there is no network, if "Drop connection" was pressed. */
let away = 0;
let transport = null;
/** A WebSocket whose network can be taken away, to show what happens then. */
class Network extends WebSocket {
  constructor(url, protocols) {
    super(Date.now() < away ? new URL("no-network", url) : url, protocols);
    transport = this;
  }
}

const socket = new ResumableSocket("live", { env: { WebSocket: Network } });
// The page has its own words and button for a run that is over.
notify(socket, { messages: { done: "", sessionFailed: "", sessionExpired: "", startAnew: "" } });

/** The session that this page has now, or had last. */
let session = null;
/** The last view, kept up to date by what came after it. */
let view = null;
/** The number of the question that was answered already. */
let answered = null;
/** The words that came one by one, to see that each comes once. */
let next = null;
let words, doubled, lost;
/** Since when there is no connection, and whether the server has said that it restarts. */
let down = null;
startCounting();

socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.view) takeView(message.view);
  else if (message.word) takeWord(message.word);
  else if (message.file) takeFile(message.file);
  else if (message.error) showError(message.error);
};

socket.onstatus = (event) => {
  switch (event.status) {
    case "connecting":
      return setState("connecting", "Connecting…");
    case "open":
      if (event.session !== session) forget();
      session = event.session;
      $("session").textContent = session;
      down = null;
      return setState("connected", "Connected");
    case "new":
    case "resumed":
    case "reused":
    case "restored":
      $("status").textContent = MEANING[event.status];
      return;
    case "waiting":
    case "offline":
    case "stalled":
      down ??= { since: Date.now() };
      if (event.reason) down.restarting = event.reason === "restarting";
      return setState("waiting", STATE[event.status], meanwhile());
    case "superseded":
      return setState("stopped", "Continued elsewhere", "The session is shown in the tab opened last.");
    case "failed":
    case "refused":
      return setState("stopped", "Stopped", event.reason);
    case "done":
      setState("stopped", "Session ended");
      return showOutcome();
  }
};

const STATE = { waiting: "Disconnected", offline: "Offline", stalled: "Waiting to send" };

/** Only what is known: a session to which this page was attached waits for the page during its lifetime. */
function meanwhile() {
  const goesOn = !down.restarting && Date.now() - down.since < socket.lifetime * 1000;
  return goesOn ? "The agent goes on meanwhile." : "";
}

// What was true when the connection went need not stay so.
setInterval(() => {
  if (down && $("state").dataset.state === "waiting") $("note").textContent = meanwhile();
}, 1000);

const MEANING = {
  new: "started by this page",
  resumed: "resumed where it was",
  reused: "running already when this page came",
  restored: "restored from the store",
};

/** This page has another session now: what was shown is not its own. */
function forget() {
  view = answered = null;
  startCounting();
  $("end").hidden = true;
  delete $("steps").dataset.status;
}

function startCounting() {
  next = null;
  words = doubled = lost = 0;
}

function takeView(newer) {
  // A page that comes in the middle gets the earlier words in the view.
  next ??= newer.words;
  view = newer;
  showError("");
  show();
}

function takeWord({ n, text, begins }) {
  if (n < next) doubled += 1;
  else lost += n - next;
  next = n + 1;
  words += 1;
  if (begins) view.lines.push({ who: begins, text: "" });
  view.lines.at(-1).text += text;
  show();
}

function takeFile({ read, line }) {
  view.files.read = read;
  view.lines.push(line);
  show();
}

function show() {
  const { step, lines, files, question } = view;
  // A session without a run is not the last run: until the next run begins, the page shows the one before.
  if (step !== "idle") localStorage.setItem(LAST, session);
  const log = $("lines");
  lines.forEach(({ who, text }, n) => {
    const line = log.children[n] ?? log.appendChild(newLine());
    line.dataset.who = who;
    line.firstChild.textContent = NAME[who];
    line.lastChild.textContent = text;
  });
  while (log.children.length > lines.length) log.lastChild.remove();
  log.setAttribute("aria-busy", String(!["idle", "ask", "done"].includes(step)));
  $("busy").hidden = !STOPPABLE.includes(step);
  for (const item of $("steps").children) {
    if (item.dataset.step === step) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  $("files").hidden = files.read === 0 && step !== "work";
  $("progress").max = files.of;
  $("progress").value = files.read;
  $("count").textContent = `${files.read} of ${files.of} files read`;
  // What was answered is not asked again, even if the answer is still on its way. The question is read out, but
  // never takes the focus: a key that was meant for something else must not approve of it.
  const open = step === "ask" && question && question.number !== answered;
  $("ask").hidden = !open;
  const text = open ? question.text : "";
  if ($("question").textContent !== text) $("question").textContent = text;
  $("start").hidden = step !== "idle";
  if (step !== "idle") $("last").hidden = true;
  const parts = [`${words} words streamed to this page`, lost ? `${lost} lost` : "none lost", doubled ? `${doubled} doubled` : "none doubled"];
  $("counted").textContent = words ? `${parts.join(", ")}.` : "";
}

const STOPPABLE = ["think", "plan", "work"];
const NAME = { you: "You", thought: "Thinks", agent: "Agent", tool: "Tool" };

function newLine() {
  const line = document.createElement("p");
  line.append(document.createElement("b"), document.createElement("span"));
  return line;
}

/** Asks what became of a session; no socket is needed. */
async function ask(session) {
  try {
    const answer = await fetch(`sessions/${session}?wait=5`);
    return answer.status === 200 ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function showOutcome() {
  const ended = session;
  const outcome = await ask(ended);
  // "New task" may have been pressed meanwhile.
  if (session !== ended) return;
  $("ask").hidden = $("start").hidden = $("busy").hidden = true;
  $("outcome").textContent = outcome ? describe(outcome) : "The run is over; its outcome cannot be reached now.";
  $("outcome").dataset.status = $("steps").dataset.status = outcome?.status ?? "";
  $("end").hidden = false;
  $("again").focus();
}

function describe({ status, result, error }) {
  if (status !== "done") return `${status[0].toUpperCase()}${status.slice(1)}: ${error}`;
  const { approved, stopped, files, words } = result;
  if (stopped) return `Stopped: ${files} files read, nothing written.`;
  return approved ? `Done: ${files} files read, ${words} words counted.` : "Done: denied, nothing was read or written.";
}

function setState(state, text, note = "") {
  const connected = state === "connected";
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("note").textContent = note;
  // Not `disabled`: the button would lose the keyboard's focus right after it was pressed.
  $("drop").setAttribute("aria-disabled", String(!connected));
  $("drop").hidden = state === "stopped";
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

// What is sent while there is no connection is kept and arrives once.
const send = (command) => socket.send(JSON.stringify(command));

$("drop").onclick = () => {
  if ($("drop").getAttribute("aria-disabled") === "true") return;
  away = Date.now() + DROP_MS;
  transport.close();
};

$("start").onsubmit = (event) => {
  event.preventDefault();
  showError("");
  send({ task: { text: $("task").value, mishap: $("mishap").value } });
};

const answer = (approve) => {
  answered = view.question.number;
  send({ answer: { question: answered, approve } });
  show();
};
$("ask").onsubmit = (event) => {
  event.preventDefault();
  answer(true);
};
// Urgent: the agent takes it while it works. Sent without a connection, it stops the agent when it is back.
$("stop").onclick = () => send("stop");
$("deny").onclick = () => answer(false);

$("again").onclick = () => {
  $("end").hidden = true;
  socket.reconnect();
};

// A run that ended while no page was open: its session is gone, its outcome is not.
const last = localStorage.getItem(LAST);
if (last) {
  ask(last).then((outcome) => {
    if (!outcome || view?.session === last) return;
    const task = outcome.result ? `\u201c${outcome.result.task}\u201d. ` : "";
    $("last-text").textContent = `${task}${describe(outcome)}`;
    $("last").hidden = view !== null && view.step !== "idle";
  });
}
