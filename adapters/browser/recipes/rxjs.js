import { webSocket } from 'rxjs/webSocket';
import { StrictSocket } from 'session-resume/strict';

/** A subject of JSON, both ways. */
export const live = (url) => webSocket({ url, WebSocketCtor: StrictSocket });
