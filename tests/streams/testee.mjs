// The testee as a child process.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const program = process.env.TESTEE ?? new URL("../../target/debug/testee", import.meta.url).pathname;

/** Starts it with these flags; it ends with this process. */
export async function start(...flags) {
  const child = spawn(program, flags, { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([
    once(lines, "line"),
    once(child, "exit").then(() => Promise.reject(new Error(`${program} does not start`))),
  ]);
  const address = line.replace("listening on ", "");
  return {
    address,
    base: `http://${address}`,
    /** A second call does nothing. */
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}
