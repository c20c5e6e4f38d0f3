import { StrictSocket } from 'session-resume/strict';
import { WebsocketProvider } from 'y-websocket';

/** Keeps a document the same as the room's; `options` are the provider's. */
export const provide = (url, room, doc, options) => new WebsocketProvider(url, room, doc, { ...options, WebSocketPolyfill: StrictSocket });
