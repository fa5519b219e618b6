// Listens on a unix socket at each path that a line of stdin names, and says whether it got it.
import process from 'node:process';
import { createInterface } from 'node:readline';
import { listen } from '../../../src/http/listener/listen.ts';

const app = { fetch: () => new Response(String(process.pid)) };
for await (const path of createInterface({ input: process.stdin })) {
  const said = await listen(app, { kind: 'unix', path, mode: 0o600 }).then(
    () => String(process.pid),
    error => error.line ?? String(error),
  );
  process.stdout.write(`${said}\n`);
}
