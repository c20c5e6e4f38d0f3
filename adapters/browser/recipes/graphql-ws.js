import { createClient } from 'graphql-ws';
import { StrictSocket } from 'session-resume/strict';

/** Subscriptions, as from any client of graphql-ws. */
export const client = (url) => createClient({ url, webSocketImpl: StrictSocket, retryAttempts: 0 });
