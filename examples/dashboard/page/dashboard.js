"use strict";

// The place where the socket is made; a client that resumes by itself goes in here.
const openSocket = () => new WebSocket(new URL("live", location.href.replace(/^http/, "ws")));

/** How long "Drop connection" stays away, so that there is something to miss. */
const DROP_MS = 5000;
/** So many live values are shown at one time. */
const RECENT = 60;

const $ = (id) => document.getElementById(id);
const boxes = [...document.querySelectorAll("#rows input")];

let socket;
let attempts = 0;
let shown = $("session").textContent;
/** The control that had the focus when the connection was lost. */
let focused = null;
/** Commands that the server has not answered yet. */
let unanswered = 0;
/** The live values, and the number that comes next; `null` until the first is known. */
let recent = [];
let next = null;
/** What came since the socket was opened. */
let replayed, doubled, lost;

function connect() {
  socket = openSocket();
  socket.onopen = () => {
    attempts = unanswered = replayed = doubled = lost = 0;
    setState("connected", "Connected");
  };
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = (event) => closed(event.code);
}

function closed(code) {
  switch (code) {
    // Another page has the session now. Coming back by ourselves would take it away from there.
    case 4100:
      return stop("Continued in another tab", "The session is shown in the tab opened last.", "Take it back");
    // Ended, refused, or broken: trying again by ourselves would not change that.
    case 1000:
    case 4101:
    case 4103:
      return stop("Session ended", `The server has closed it (${code}).`, "Connect again");
    default: {
      const wait = Math.min(10_000, 250 * 2 ** attempts++) * (0.5 + Math.random() / 2);
      setState("waiting", "Reconnecting…");
      setTimeout(connect, wait);
    }
  }
}

function stop(state, note, button) {
  setState("stopped", state, note);
  $("resume").textContent = button;
  $("resume").hidden = false;
}

$("resume").onclick = () => {
  // Values that the other tab was shown are not missing here.
  next = null;
  setState("connecting", "Connecting…");
  $("drop").focus();
  connect();
};

$("drop").onclick = () => {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.onclose = null;
  socket.onmessage = null;
  socket.close();
  setState("waiting", "Disconnected", `Back in ${DROP_MS / 1000} s; the server goes on meanwhile.`);
  setTimeout(connect, DROP_MS);
};

function setState(state, text, note = "") {
  const connected = state === "connected";
  // A control that is disabled loses the keyboard's focus: it gets it back.
  if (!connected && $("controls").contains(document.activeElement)) focused = document.activeElement;
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("note").textContent = note;
  $("controls").disabled = !connected;
  // Not `disabled`: that would take the keyboard's focus away from who has just pressed it.
  $("drop").disabled = false;
  $("drop").setAttribute("aria-disabled", String(!connected));
  $("drop").hidden = state === "stopped";
  $("resume").hidden = true;
  if (connected && document.activeElement === document.body) focused?.focus();
  if (connected) focused = null;
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
  if (view.session !== shown) {
    // The earlier one has expired while we were away, or the server was started anew.
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
  showLive();
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

function send(command) {
  if (socket.readyState !== WebSocket.OPEN) return;
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

connect();
