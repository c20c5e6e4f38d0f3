// Runs the tests of @durable-streams/server-conformance-tests that `read.txt` names, and fails if one of them fails, or is
// not there any more. What only writes is not there: the library is a read half.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { start } from "./testee.mjs";

const framework = process.argv[2] ?? "axum";
const here = new URL(".", import.meta.url);
const list = await readFile(new URL("read.txt", here), "utf8");
const names = list.split("\n").filter((line) => line && !line.startsWith("#"));

const testee = await start(
  ...["--framework", framework, "--streams-shim", "--origin", "https://example.com"],
  // Nobody acknowledges what the suite writes.
  ...["--outbox-messages", "100000", "--outbox-bytes", "100000000", "--max-message", "20000000"],
);
const folder = await mkdtemp(join(tmpdir(), "streams-"));
try {
  const report = join(folder, "report.json");
  const literal = (name) => name.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  const vitest = new URL("node_modules/vitest/vitest.mjs", here).pathname;
  const pattern = `^(?:${names.map(literal).join("|")})$`;
  const run = spawn(
    process.execPath,
    [vitest, "run", "suite.test.mjs", "-t", pattern, "--testTimeout=60000", "--reporter=json", `--outputFile=${report}`],
    { cwd: here, stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, STREAMS_AT: testee.base } },
  );
  await once(run, "exit");
  const { testResults } = JSON.parse(await readFile(report, "utf8"));
  const results = new Map(
    testResults.flatMap((file) => file.assertionResults).map((test) => [test.fullName.trim(), test]),
  );
  const bad = names.filter((name) => results.get(name)?.status !== "passed");
  for (const name of bad) {
    const result = results.get(name);
    const [why] = (result?.failureMessages?.[0] ?? "").split("\n");
    console.error(`${result?.status ?? "not there"}: ${name}\n  ${why}`);
  }
  console.log(`${framework}: ${names.length - bad.length} of ${names.length} tests of readers pass`);
  process.exitCode = bad.length ? 1 : 0;
} finally {
  await testee.kill();
  await rm(folder, { recursive: true });
}
