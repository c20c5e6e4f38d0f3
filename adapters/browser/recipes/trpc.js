import { createWSClient } from '@trpc/client';
import { StrictSocket } from 'session-resume/strict';

/** A connection for `wsLink({ client })`; `options` are those of `createWSClient`. */
export const connection = (url, options) => createWSClient({ ...options, url, WebSocket: StrictSocket });
