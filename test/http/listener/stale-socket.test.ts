// Goal: where a server died, of those that start at once exactly one gets the socket, and it can be reached. Method:
// dead sockets, and servers in this process and in several.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, renameSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { type Listening, listen } from '../../../src/http/listener/listen.ts';
import { withFreeName } from '../../../src/http/listener/stale-socket.ts';
import { withLockFile } from '../../../src/store/sqlite/lock-file.ts';
import { failureOf } from '../../kit/failures.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { assert, suite } from '../../kit/uvu.ts';

const ROUNDS = 10;
const LISTEN_ONCE = fileURLToPath(new URL('listen-once.ts', import.meta.url));
const RUN = 'Deno' in globalThis ? ['run', '-A', LISTEN_ONCE] : [LISTEN_ONCE];

interface Context {
  folder: string;
  open: Listening[];
}
const stale = suite<Context>('a socket that a server left when it died');
stale.before.each(context => {
  context.folder = tempFolder();
  context.open = [];
});
stale.after.each(async ({ folder, open }) => {
  await Promise.all(open.map(one => one.close(0)));
  removeFolder(folder);
});

/** A socket file that nobody listens on. A closing server removes its own, so it is renamed meanwhile. */
async function leaveStaleSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen({ path: `${path}.new` }, resolve));
  renameSync(`${path}.new`, path);
  await new Promise(resolve => server.close(resolve));
  assert.ok(existsSync(path));
}

const get = (socketPath: string): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ socketPath }, answer => text(answer).then(resolve, reject))
      .once('error', reject)
      .end();
  });

stale('of servers that find it at once: one gets it, and can be reached', async ({ folder, open }) => {
  const path = join(folder, 'x.sock');
  await leaveStaleSocket(path);
  const started = await Promise.allSettled(
    ['a', 'b', 'c', 'd'].map(async name => {
      open.push(await listen({ fetch: () => new Response(name) }, { kind: 'unix', path, mode: 0o600 }));
      return name;
    }),
  );
  const names = started.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []));
  for (const one of started)
    if (one.status === 'rejected') assert.match(one.reason.line, /another server answers there/);
  assert.equal([await get(path)], names);
});

stale('of processes that find it at once: one gets it, and can be reached', async ({ folder }) => {
  const children: ChildProcess[] = [];
  const started = ['a', 'b', 'c'].map(() => {
    const child = spawn(process.execPath, RUN, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return async (path: string) => {
      child.stdin.write(`${path}\n`);
      return String((await lines.next()).value);
    };
  });
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const path = join(folder, `${round}.sock`);
      await leaveStaleSocket(path);
      const answers = await Promise.all(started.map(listenAt => listenAt(path)));
      const pids = answers.filter(answer => /^\d+$/.test(answer));
      assert.equal([await get(path)], pids, answers.join('\n'));
    }
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
});

stale('a process that is starting there: is waited for, and not for ever', async ({ folder, open }) => {
  const path = join(folder, 'x.sock');
  await leaveStaleSocket(path);
  let end = () => {};
  const other = withLockFile(
    `${path}.lock`,
    0,
    () =>
      new Promise<void>(resolve => {
        end = resolve;
      }),
  );
  const line = await failureOf(
    withFreeName(path, async () => assert.unreachable(), 50),
    'conflict',
  );
  assert.match(line, /another server is starting there; stop it, or give another address$/);
  assert.ok(existsSync(path), 'what is there is left to the other');
  const mine = listen({ fetch: () => new Response('mine') }, { kind: 'unix', path, mode: 0o600 });
  end();
  open.push(await mine);
  await other;
  assert.is(await get(path), 'mine');
});
stale.run();
