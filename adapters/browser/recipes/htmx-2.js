import { StrictSocket } from 'session-resume/strict';

/** htmx 2, with its extension `htmx-ext-ws`. */
export function sessions(htmx) {
  htmx.createWebSocket = (url) => new StrictSocket(url);
  document.addEventListener('htmx:wsClose', ({ detail }) => {
    if (detail.event.code === 4000) location.reload();
  });
}
