// As user-libraries.ts, for a library that has types for ES modules alone.
import { StrictSocket } from 'session-resume/strict';
import { WebsocketProvider } from 'y-websocket';
import { Doc } from 'yjs';

new WebsocketProvider('/live', 'notes', new Doc(), { WebSocketPolyfill: StrictSocket }).destroy();
