import { StrictSocket } from 'session-resume/strict';

/** htmx 4, which makes its sockets with the page's `WebSocket`: those for a URL that `live` picks become sessions. */
export function sessions(htmx, live) {
  const { WebSocket } = globalThis;
  globalThis.WebSocket = new Proxy(WebSocket, {
    construct: (_, [url, protocols]) => (live(url) ? new StrictSocket(url, { protocols, env: { WebSocket } }) : new WebSocket(url, protocols)),
  });
  // Both would end a session, and begin another one in silence.
  htmx.config.ws = { ...htmx.config.ws, reconnect: false, pauseOnBackground: false };
  document.addEventListener('htmx:ws:close', ({ detail }) => {
    if (detail.code === 4000) location.reload();
  });
}
