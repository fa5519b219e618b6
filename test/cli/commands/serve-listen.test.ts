// Goal: without --listen a server is at a private socket, and for one release also where it was, which it says; the
// admin listener is apart, and neither needed nor waited for. Method: a server in this process for a user whose home is a folder of the test, with a port that the system chooses.
import { existsSync, statSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import process from 'node:process';
import { text } from 'node:stream/consumers';
import type { Parts } from '../../../src/cli/command.ts';
import { type RunningServer, startServer } from '../../../src/cli/commands/serve.ts';
import type { Config } from '../../../src/cli/settings/config.ts';
import { createKeeper } from '../../../src/ipam/sync/keeper.ts';
import { configOf, keptIo } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { trustWith } from '../../kit/trust.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A } from '../../kit/vpcs.ts';
import { pause, until } from '../../kit/wait.ts';
import { type World, world } from '../../kit/world.ts';

interface Context {
  folder: string;
  w: World;
  servers: RunningServer[];
}
const listens = suite<Context>('where a server listens');
listens.before.each(context => {
  context.folder = tempFolder();
  context.w = world();
  context.servers = [];
});
listens.after.each(async ({ folder, servers }) => {
  await Promise.all(servers.map(one => one.stop()));
  removeFolder(folder);
});

/** `port`: in place of that of the former default. */
async function start(
  { folder, w, servers }: Context,
  more: Partial<Config> = {},
  port = 0,
  changed: Partial<Pick<Parts, 'open' | 'store' | 'service'>> = {},
): Promise<RunningServer> {
  const config = configOf({ home: folder, isRoot: false });
  assert.equal(config.formerListen, { kind: 'http', host: '127.0.0.1', port: 8031 });
  const context = { ...w.context, clock: () => performance.now(), wait: pause };
  const parts: Parts = {
    store: w.store,
    context,
    open: async () => {},
    own: async () => {},
    trust: trustWith(w.store),
    server: 'a1b2c3d4',
    testimony: null,
    ec2: () => {
      throw new Error('a server asks EC2 by its rate');
    },
    service: opened => ({ pools: w.pools, allocator: w.allocator, opened }),
    keeper: createKeeper(context, w, { server: 'a', reconcileEveryMs: 60_000 }),
    ...changed,
  };
  const server = await startServer({
    config: { ...config, formerListen: { kind: 'http', host: '127.0.0.1', port }, ...more },
    io: keptIo().io,
    log: w.context.log,
    assemble: async () => parts,
  });
  servers.push(server);
  return server;
}
const socketIn = (folder: string) => join(folder, '.local/state/ec2-ipam/ec2-ipam.sock');
const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);
const activated = (where: object): Promise<string> =>
  new Promise((resolve, reject) => {
    const sent = request({ ...where, agent: new Agent(), method: 'POST', path: '/Plugin.Activate' }, answer =>
      text(answer).then(resolve, reject),
    );
    sent.once('error', reject).end();
  });
const warningsIn = ({ w }: Context): string[] =>
  w.lines.filter(({ level }) => level === 'warn').map(({ message }) => message);

listens('without --listen: at a socket of the state directory that is private', async context => {
  const umask = process.umask(0);
  await start(context);
  process.umask(umask);
  const path = socketIn(context.folder);
  assert.equal([path, join(path, '..')].map(modeOf), ['600', '700']);
  assert.match(await activated({ socketPath: path }), /IpamDriver/);
});

listens('without --listen: also where it was until now, and says what to change', async context => {
  const { addresses } = await start(context);
  const path = socketIn(context.folder);
  assert.is(addresses[0], `unix:${path}`);
  const { hostname, port } = new URL(addresses[1] ?? '');
  assert.match(await activated({ hostname, port }), /IpamDriver/);
  const [warning = '', ...more] = warningsIn(context);
  assert.equal(more, []);
  for (const what of [
    `at unix:${path}`,
    'http://127.0.0.1:8031',
    `"Addr": "unix://${path}"`,
    'restart dockerd',
    `--listen unix:${path}`,
  ])
    assert.ok(warning.includes(what), `${what}: ${warning}`);
});

listens('where another program has the former port: at the socket alone', async context => {
  const other = await start({ ...context, folder: join(context.folder, 'other') });
  const { addresses } = await start(context, {}, Number(new URL(other.addresses[1] ?? '').port));
  assert.equal(addresses, [`unix:${socketIn(context.folder)}`]);
  assert.is(warningsIn(context).at(-1), 'former default of --listen not served');
});

listens('with --listen: there alone, and no warning', async context => {
  const path = join(context.folder, 'x.sock');
  const listen = [{ kind: 'unix', path, mode: 0o600 }] as const;
  const { addresses } = await start(context, { listen, formerListen: null });
  assert.equal(addresses, [`unix:${path}`]);
  assert.equal(warningsIn(context), []);
});

const ADMIN = { kind: 'http', host: '127.0.0.1', port: 0 } as const;
/** Sends the request on a connection of its own, which stays open. */
const got = (
  where: object,
  path: string,
  headers = {},
): Promise<{ status?: number | undefined; body: string }> =>
  new Promise((resolve, reject) => {
    const agent = new Agent({ keepAlive: true });
    const sent = request({ ...where, agent, path, headers }, answer =>
      text(answer).then(body => resolve({ status: answer.statusCode, body }), reject),
    );
    sent.once('error', reject).end();
  });
const whereOf = (address: string | null) => {
  const { hostname, port } = new URL(address ?? '');
  return { hostname, port };
};

listens('the admin listener: tells how the server is, and does not serve Docker', async context => {
  let open = () => {};
  const opening = new Promise<void>(resolve => (open = resolve));
  const server = await start(context, { adminListen: ADMIN }, 0, { open: () => opening });
  const where = whereOf(await server.admin);
  assert.equal(await got(where, '/healthz'), { status: 200, body: 'ok\n' });
  assert.is((await got(where, '/readyz')).status, 503);
  open();
  await server.opened;
  assert.equal(await got(where, '/readyz'), {
    status: 200,
    body: '{"isReady":true,"store":"ok","ec2":"not asked yet"}',
  });
  assert.match(await activated(where), /only GET and HEAD are served/);
  const [docker = ''] = server.addresses;
  assert.match(
    (await got({ socketPath: docker.slice('unix:'.length) }, '/healthz')).body,
    /no such endpoint/,
  );
});

listens('the admin listener: is closed to pages of other sites', async context => {
  const where = whereOf(await (await start(context, { adminListen: ADMIN })).admin);
  for (const headers of [{ Origin: 'http://127.0.0.1' }, { Host: 'rebound.example.com' }])
    assert.is((await got(where, '/healthz', headers)).status, 403);
});

listens('an admin listener that cannot be opened: is a warning, and Docker is served', async context => {
  const [taken = ''] = (await start({ ...context, folder: join(context.folder, 'other') })).addresses.slice(
    1,
  );
  const { port } = whereOf(taken);
  const server = await start(context, { adminListen: { ...ADMIN, port: Number(port) } });
  assert.is(await server.admin, null);
  assert.is(warningsIn(context).at(-1), 'admin listener not opened');
  assert.match(await activated({ socketPath: socketIn(context.folder) }), /IpamDriver/);
});

listens('an admin socket: is private, and gone after the stop', async context => {
  const path = join(context.folder, 'admin.sock');
  const server = await start(context, { adminListen: { kind: 'unix', path, mode: 0o600 } });
  assert.is(await server.admin, `unix:${path}`);
  assert.is(modeOf(path), '600');
  assert.is((await got({ socketPath: path }, '/healthz')).status, 200);
  await server.stop();
  assert.not(existsSync(path));
});

listens('a stop: cuts the admin listener at once, and answers Docker', async context => {
  let give = () => {};
  const given = new Promise<void>(resolve => (give = resolve));
  let asked = 0;
  const store = { ...context.w.store, outdated: () => new Promise<never>(() => void asked++) };
  const pools = {
    ...context.w.pools,
    async release() {
      asked++;
      await given;
    },
  };
  const server = await start(context, { adminListen: ADMIN }, 0, {
    store,
    service: opened => ({ pools, allocator: context.w.allocator, opened }),
  });
  await server.opened;
  const where = whereOf(await server.admin);
  await got(where, '/healthz'); // its connection stays open
  const probe = got(where, '/readyz').then(
    () => 'answered',
    () => 'cut',
  );
  const sent = request({
    socketPath: socketIn(context.folder),
    method: 'POST',
    path: '/IpamDriver.ReleasePool',
  });
  const answer = new Promise<string>((resolve, reject) => {
    sent.once('response', response => text(response).then(resolve, reject)).once('error', reject);
  });
  sent.end(JSON.stringify({ PoolID: ENI_A }));
  await until('both to be asked', () => asked === 2);
  const stopped = server.stop();
  assert.is(await probe, 'cut');
  give();
  assert.is(await answer, '{}\n');
  await stopped;
});
listens.run();
