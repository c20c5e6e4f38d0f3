import { ResumableSocket } from "./session-resume.js";
import { notify } from "./session-resume-notify.js";

/** How long "Drop connection" stays away, so that there is something to miss. */
const DROP_MS = 5000;
/** The number of live values shown at one time. */
const RECENT = 60;
/** A value comes each second: one that is older than this is shown with its age. */
const FRESH_MS = 3000;

const $ = (id) => document.getElementById(id);
const boxes = [...document.querySelectorAll("#rows input")];

/** Until then there is no network, if "Drop connection" was pressed. */
let away = 0;
let transport = null;
/** A WebSocket whose network can be taken away: the client is not told, and must find out and come back by itself. */
class Network extends WebSocket {
  constructor(url, protocols) {
    super(Date.now() < away ? new URL("no-network", url) : url, protocols);
    transport = this;
  }
}

const socket = new ResumableSocket("live", { env: { WebSocket: Network } });
// In a row of its own: over the page it would cover controls.
notify(socket, { delay: 0.3, parent: $("notice") });

let shown = $("session").textContent;
/** Whether the page has had a view: before, it does not know what to change. */
let viewed = false;
/** The control that had the focus when the session was lost to another tab. */
let focused = null;
/** Commands that the server has not answered yet. */
let unanswered = 0;
/** The live values, and the number that comes next; `null` until the first is known. */
let recent = [];
let next = null;
/** What came since the last connection was made. */
let replayed = 0;
let doubled = 0;
let lost = 0;
/** When the last value came. */
let ticked = 0;
/** Since when there is no connection, and whether the server has said that it restarts. */
let down = null;

socket.onmessage = ({ data }) => receive(JSON.parse(data));

socket.onstatus = (event) => {
  switch (event.status) {
    case "connecting":
      return setState("connecting", "Connecting…");
    case "open":
      replayed = doubled = lost = 0;
      down = null;
      return setState("connected", "Connected");
    case "stalled":
      down ??= { since: Date.now() };
      return setState("waiting", "Waiting to send", meanwhile());
    case "waiting":
    case "offline":
      down ??= { since: Date.now() };
      if (event.reason) down.restarting = event.reason === "restarting";
      return setState("waiting", down.restarting ? "The server restarts" : "Disconnected", meanwhile());
    // Coming back by ourselves would take the session away from the other tab.
    case "superseded":
      return setState("stopped", "Continued in another tab", "The session is shown in the tab opened last.");
    case "failed":
    case "refused":
      return setState("stopped", "Stopped", event.reason);
    case "done":
      return setState("stopped", "Session ended");
    case "gap":
      // Another tab had the session: what it was shown is not missing here, but this page must look again.
      next = null;
      return send("view");
    case "lost":
      // These get no answer any more.
      unanswered = Math.max(0, unanswered - event.messages.length);
      return;
  }
};

$("drop").onclick = () => {
  if ($("drop").getAttribute("aria-disabled") === "true") return;
  away = Date.now() + DROP_MS;
  transport.close();
};

function setState(state, text, note = "") {
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("note").textContent = note;
  // Not `disabled`: the button would lose the keyboard's focus right after it was pressed.
  $("drop").setAttribute("aria-disabled", String(state !== "connected"));
  $("drop").hidden = state === "stopped";
  // A control that is disabled loses the keyboard's focus: it gets it back.
  if (state === "stopped" && $("controls").contains(document.activeElement)) focused = document.activeElement;
  $("controls").disabled = state === "stopped" || !viewed;
  if (state !== "connected") return;
  if (document.activeElement === document.body) focused?.focus();
  focused = null;
}

/** Only what is known: a session to which this page was attached waits for the page during its lifetime. */
function meanwhile() {
  const goesOn = !down.restarting && Date.now() - down.since < socket.lifetime * 1000;
  return goesOn ? "The server goes on meanwhile, and what you do here is kept." : "What you do here is kept.";
}

// What was true when the connection went need not stay so.
setInterval(() => {
  if (down && $("state").dataset.state === "waiting") $("note").textContent = meanwhile();
  showAge();
}, 500);

function showAge() {
  const age = Date.now() - ticked;
  const old = ticked > 0 && age > FRESH_MS;
  $("live").toggleAttribute("data-old", old);
  $("age").textContent = old ? `(${Math.round(age / 1000)} s old)` : "";
}

function receive(message) {
  if (message.view) {
    unanswered = Math.max(0, unanswered - 1);
    showError("");
    showView(message.view);
  } else if (message.tick) {
    takeTick(message.tick);
  } else if (message.error) {
    unanswered = Math.max(0, unanswered - 1);
    showError(message.error);
  }
}

function showView(view) {
  // From here on they work through any drop: a command is kept until there is a connection.
  viewed = true;
  $("controls").disabled = false;
  if (view.session !== shown) {
    // The earlier one has expired while we were away, or the server kept it in memory alone and was started anew.
    shown = view.session;
    next = null;
    $("session").textContent = view.session;
    $("identity").textContent = view.identity;
    $("origin").textContent = view.origin;
    $("note").textContent = "The earlier session is gone; this is another one.";
  }
  // An answer to an earlier click must not undo a later one.
  if (unanswered === 0) {
    const selected = new Set(view.selected);
    for (const box of boxes) box.checked = selected.has(box.value);
    $("range").value = view.options.range;
    $("scale").value = view.options.scale;
  }
  showPlot(view.plot);
  // After a reconnect older views come first: they know less than we do.
  if (next === null || view.live.next >= next) {
    next = view.live.next;
    recent = view.live.recent;
    showLive();
  }
}

function showPlot(plot) {
  $("plot").hidden = !plot;
  $("empty").hidden = Boolean(plot);
  if (!plot) return;
  $("caption").textContent = plot.caption;
  $("legend").replaceChildren(...plot.legend.map((name, n) => {
    const item = document.createElement("li");
    item.className = `line-${n}`;
    item.textContent = name;
    return item;
  }));
  const svg = new DOMParser().parseFromString(plot.svg, "image/svg+xml").documentElement;
  $("svg").replaceChildren(document.importNode(svg, true));
}

function takeTick({ number, value, away }) {
  if (next !== null && number < next) {
    doubled += 1;
  } else {
    if (next !== null) lost += number - next;
    if (away) replayed += 1;
    next = number + 1;
    recent.push(value);
    recent = recent.slice(-RECENT);
  }
  ticked = Date.now();
  showLive();
  showAge();
}

function showLive() {
  if (recent.length === 0) return;
  $("value").textContent = recent.at(-1).toFixed(3);
  $("number").textContent = `no. ${next - 1}`;
  const points = recent.map((value, n) => {
    const x = 300 - (recent.length - 1 - n) * (300 / (RECENT - 1));
    return `${x.toFixed(1)},${(30 - (value - 50) * 600).toFixed(1)}`;
  });
  $("trace").setAttribute("points", points.join(" "));
  const parts = [];
  if (replayed) parts.push(`${replayed} missed while away and replayed`);
  if (replayed || lost) parts.push(lost ? `${lost} lost` : "none lost");
  if (doubled) parts.push(`${doubled} came twice and counted once`);
  $("replay").textContent = parts.length ? `Since this connection: ${parts.join(", ")}.` : "";
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

// What is sent while there is no connection is kept and arrives once.
function send(command) {
  unanswered += 1;
  socket.send(JSON.stringify(command));
}

$("rows").onchange = () => send({ select: boxes.filter((box) => box.checked).map((box) => box.value) });
$("range").onchange = $("scale").onchange = () =>
  send({ options: { range: $("range").value, scale: $("scale").value } });
$("form").onsubmit = (event) => {
  event.preventDefault();
  send({ plot: true });
};
$("clear").onclick = () => send({ plot: false });
