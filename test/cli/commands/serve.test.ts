// Goal: a server that stops loses nothing and ends in its bounds. Method: a server in this process, on a real socket,
// with a machine in memory whose parts are slow or away.
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Parts } from '../../../src/cli/command.ts';
import { type RunningServer, startServer } from '../../../src/cli/commands/serve.ts';
import { IpamError } from '../../../src/domain/error.ts';
import type { Allocator } from '../../../src/ipam/request/allocate.ts';
import { createKeeper } from '../../../src/ipam/sync/keeper.ts';
import { configOf, keptIo } from '../../kit/cli.ts';
import { toldIn } from '../../kit/failures.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { trustWith } from '../../kit/trust.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ROOMY } from '../../kit/vpcs.ts';
import { pause, until } from '../../kit/wait.ts';
import { pooled, type World, world } from '../../kit/world.ts';

const AWAY = new IpamError('store-down', 'the store is away', { hint: 'wait' });
const SOON_MS = 3000;

/** Now, on each runtime. */
function collectGarbage(): void {
  const { Bun } = globalThis as { Bun?: { gc(now: boolean): void } };
  if (Bun === undefined) {
    setFlagsFromString('--expose-gc');
    runInNewContext('gc')();
  } else Bun.gc(true);
}

let folder = '';
const stop = suite('the stop of a server');
stop.before.each(() => {
  folder = tempFolder();
});
stop.after.each(() => removeFolder(folder));
const socketPath = () => join(folder, 'x.sock');

type Opened = Parameters<Parts['service']>[0];

/** In real time, since its sockets are real. */
async function start(
  w: World,
  more: Partial<Pick<Parts, 'open' | 'store' | 'keeper'>> & {
    allocator?: Allocator;
    requestTimeout?: string;
    serving?: (opened: Opened) => void;
  } = {},
): Promise<RunningServer> {
  const context = { ...w.context, clock: () => performance.now(), wait: pause };
  const { open = async () => {}, store = w.store, allocator = w.allocator } = more;
  const parts: Parts = {
    store,
    context,
    open,
    server: 'a',
    own: async () => {},
    trust: trustWith(store),
    testimony: null,
    ec2: () => {
      throw new Error('a server asks EC2 by its rate');
    },
    service: opened => {
      more.serving?.(opened);
      return { pools: w.pools, allocator, opened };
    },
    keeper: more.keeper ?? createKeeper({ ...context, store }, w, { server: 'a', reconcileEveryMs: 60_000 }),
  };
  const { requestTimeout = '120s' } = more;
  const flags = { listen: [`unix:${socketPath()}`], 'request-timeout': [requestTimeout] };
  const config = configOf({ flags, home: folder, isRoot: false });
  return await startServer({ config, io: keptIo().io, log: w.context.log, assemble: async () => parts });
}

/** Asks for an address, or gives one up; `hangUp` ends the call. */
function ask(what = 'RequestAddress', address = ''): { answer: Promise<string>; hangUp(): void } {
  const sent = request({ socketPath: socketPath(), path: `/IpamDriver.${what}`, method: 'POST' });
  const answer = new Promise<string>((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', async response => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve(text);
    });
  });
  answer.catch(() => {}); // of those that hang up
  sent.end(JSON.stringify({ PoolID: ENI_A, Address: address }));
  return { answer, hangUp: () => void sent.destroy() };
}

/** Fails when it takes longer than it should. */
async function soon(work: Promise<void>): Promise<void> {
  const startedAt = performance.now();
  await work;
  assert.ok(performance.now() - startedAt < SOON_MS, 'it took too long');
}

stop('what waits for a ledger that is not open: fails at once', async () => {
  let tries = 0;
  const open = async () => {
    tries++;
    throw AWAY;
  };
  const server = await start(world(), { open });
  const { answer } = ask();
  await until('a try', () => tries > 0);
  await pause(100);
  await soon(server.stop());
  assert.is(toldIn(JSON.parse(await answer)), 'the server stops; try again');
  assert.not(existsSync(socketPath()));
});

stop('releases that came while the ledger was never open: are named in the log', async () => {
  const w = world();
  const open = () => Promise.reject(AWAY);
  const server = await start(w, { open, requestTimeout: '1s' });
  const { answer } = ask('ReleaseAddress', '10.0.1.77');
  assert.match(JSON.parse(await answer).Error, /^the store is away/);
  await soon(server.stop());
  const told = w.lines.filter(line => line.message.startsWith('releases not made'));
  assert.equal(
    told.map(line => line.fields.ips),
    [['10.0.1.77']],
  );
});

stop('the undo of a caller that hung up: is waited for, and only then the store is closed', async () => {
  const w = await pooled({ vpc: ROOMY });
  const steps: string[] = [];
  const store = { ...w.store, close: async () => void steps.push('closed') };
  const allocator: Allocator = {
    ...w.allocator,
    request: async asked => {
      const given = await w.allocator.request(asked);
      await until('the hang-up to arrive', () => asked.caller.aborted);
      return given;
    },
    undo: async row => {
      steps.push('undoing');
      await pause(200);
      await w.allocator.undo(row);
      steps.push('undone');
    },
  };
  const idle = { run: async () => {}, stop: async () => void steps.push('keeper stopped'), logLeft() {} };
  const server = await start(w, { store, allocator, keeper: idle });
  await server.opened;
  const { hangUp } = ask();
  await until('the claim', async () => (await w.ipsWith('allocated')).length === 1);
  hangUp();
  await until('the undo', () => steps.length > 0);
  await soon(server.stop());
  assert.equal(steps, ['undoing', 'undone', 'keeper stopped', 'closed']);
  assert.equal(await w.ipsWith('allocated'), []);
});

stop('requests that a server has answered: nothing is left of them', async () => {
  let opened: Opened = async () => {};
  const server = await start(world(), {
    serving: given => {
      opened = given;
    },
  });
  await server.opened;
  const callers: WeakRef<AbortSignal>[] = [];
  for (let i = 0; i < 100; i++) {
    const { signal } = new AbortController();
    callers.push(new WeakRef(signal));
    await opened(signal);
  }
  await pause(1); // what a WeakRef was made for lives as long as its tick
  collectGarbage();
  const left = callers.filter(caller => caller.deref() !== undefined).length;
  assert.ok(left < 10, `${left} of 100 callers are remembered`);
  await soon(server.stop());
});

stop('a store that is away: leaves the stop in good order', async () => {
  const w = await pooled();
  let isAway = false;
  const store = {
    ...w.store,
    beat: (id: string, stopped: boolean) => (isAway ? Promise.reject(AWAY) : w.store.beat(id, stopped)),
    close: () => Promise.reject(AWAY),
  };
  const server = await start(w, { store });
  await server.opened;
  isAway = true;
  await soon(server.stop());
  assert.ok(w.lines.some(line => line.message === 'store not closed'));
});
stop.run();
