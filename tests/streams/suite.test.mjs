// What vitest runs; `conformance.mjs` says which of it.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.STREAMS_AT, longPollTimeoutMs: 40_000 });
