// Goal: what the commands do to a ledger and to EC2, and what they say of it. Method: main() in this process, with an
// embedded ledger and the simulator, whose metadata service says which instance this is.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import { startServer } from '../../../src/cli/commands/serve.ts';
import { loadConfig } from '../../../src/cli/settings/config.ts';
import { settingNames } from '../../../src/cli/settings/settings.ts';
import type { EniId, InstanceId, SubnetId } from '../../../src/domain/ids.ts';
import type { Log } from '../../../src/domain/log.ts';
import { METADATA } from '../../../src/simulator/model/faults.ts';
import type { Vpc } from '../../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../../src/simulator/simulator.ts';
import { createStore, ownerOf } from '../../../src/store/create-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { putOn } from '../../kit/ledger.ts';
import { ip, type Served, serve, simulated } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const SUBNET = 'subnet-0a1b2c3d4e5f60001' as SubnetId;
const MINE = 'i-0a1b2c3d4e5f60001' as InstanceId;
const CLONE = 'i-0a1b2c3d4e5f60002' as InstanceId;
const ENI = 'eni-0a1b2c3d4e5f60001' as EniId;
const WORLD = {
  subnets: [{ id: SUBNET, cidr: '10.0.1.0/28' }],
  instances: [{ id: MINE }, { id: CLONE }],
  enis: [{ id: ENI, subnet: SUBNET, primary: '10.0.1.4', attachment: { instance: MINE, deviceIndex: 1 } }],
};
const HELD = ip('10.0.1.9');
const NOWHERE = 'http://127.0.0.1:9';

interface Context {
  folder: string;
  path: string;
  store: Store;
  vpc: Vpc;
  /** The simulator as each instance sees it. */
  at: Record<InstanceId, Served>;
}
const commands = suite<Context>('commands');
const ENVIRONMENT = ['AWS_ENDPOINT_URL_EC2', 'AWS_EC2_METADATA_SERVICE_ENDPOINT', 'AWS_ACCESS_KEY_ID'];
const before = ENVIRONMENT.map(name => process.env[name]);
commands.before.each(async context => {
  context.folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-commands-'));
  context.path = join(context.folder, 'ledger.sqlite');
  context.store = await createStore({ kind: 'sqlite', path: context.path });
  context.vpc = simulated({ now: Date.now }, WORLD);
  context.at = {
    [MINE]: await serve(createSimulator(context.vpc, { instance: MINE })),
    [CLONE]: await serve(createSimulator(context.vpc, { instance: CLONE })),
  };
  process.env.AWS_ENDPOINT_URL_EC2 = context.at[MINE]?.url;
  process.env.AWS_ACCESS_KEY_ID = process.env.AWS_SECRET_ACCESS_KEY = 'test';
});
commands.after.each(async ({ folder, store, at }) => {
  await store.close();
  for (const served of Object.values(at)) served.close();
  rmSync(folder, { recursive: true });
});
commands.after(() => {
  for (const [i, name] of ENVIRONMENT.entries())
    if (before[i] === undefined) delete process.env[name];
    else process.env[name] = before[i];
});

interface Said {
  readonly status: number;
  readonly out: string;
  readonly err: string;
  /** Both, in the order in which they were written. */
  readonly all: string;
}

/** Runs a command as on the instance; null: where there is no metadata service. */
async function run({ path, at }: Context, on: InstanceId | null, line: string, answer = ''): Promise<Said> {
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = on === null ? NOWHERE : at[on]?.url;
  let [out, err, all] = ['', '', ''];
  const output = (take: (text: string) => void) => ({
    isTerminal: false,
    write(text: string) {
      take(text);
      all += text;
    },
  });
  const io = {
    out: output(text => {
      out += text;
    }),
    err: output(text => {
      err += text;
    }),
    ask: async () => answer,
    // A server goes on until something ends it.
    signal: line.startsWith('serve') ? new AbortController().signal : AbortSignal.abort(),
    crashed: new Promise<never>(() => {}),
  };
  const env = { AWS_REGION: 'eu-central-1', EC2_IPAM_STORE: `sqlite:${path}`, EC2_IPAM_LOG_FORMAT: 'json' };
  const status = await main(line.split(' '), env, io, assemble);
  return { status, out, err, all };
}

/** A ledger of this instance with a held address, and one that is ready; EC2 has both. */
async function used(context: Context): Promise<void> {
  const { store, vpc } = context;
  assert.is((await run(context, MINE, `init ${SUBNET}`)).status, 0);
  await store.adopt(ENI);
  const ips = [HELD, ip('10.0.1.10')];
  const { rows } = await store.get(SUBNET, ips);
  const ready = await putOn(store, rows, ENI);
  const held = ready.filter(row => row.ip === HELD);
  await store.move(held.map(row => ({ row, move: 'claim', holder: 'web' })));
  vpc.network.assign({ eni: ENI, ips });
}
const ledgerOf = async ({ store }: Context) => [
  await store.enis(),
  await store.subnets(),
  (await store.withStatus(SUBNET, ['free', 'ready', 'allocated', 'occupied', 'unassigning'])).rows,
];

commands('status of a ledger without a subnet tells the age of its servers all the same', async context => {
  await context.store.migrate();
  await context.store.beat('a', false);
  const { out } = await run(context, MINE, 'status --json');
  const [server] = JSON.parse(out).servers;
  assert.ok(server.seenMs >= 0 && server.seenMs < 60_000, out);
});

commands('reconcile prints each difference before it closes it', async context => {
  await used(context);
  context.vpc.network.assign({ eni: ENI, ips: [ip('10.0.1.12')] });
  const { status, out, all } = await run(context, MINE, 'reconcile');
  assert.is(status, 0, all);
  assert.match(out, /10\.0\.1\.12/);
  const [said, closed] = [all.indexOf(out.split('\n')[0] ?? ''), all.indexOf('"drift: ')];
  assert.ok(said >= 0 && closed >= 0 && said < closed, all);
});

commands('recycle takes back what is idle, of each ENI in turn', async context => {
  await used(context);
  const { status, out, all } = await run(context, MINE, `recycle ${SUBNET} --idle 0s`);
  assert.is(status, 0, all);
  assert.match(out, /unassigned 1 of 1\n$/);
  assert.equal(context.vpc.network.eni(ENI).secondaries, [HELD]);
});

commands('release --json is one object on stdout; whom it hits is shown on stderr before', async context => {
  await used(context);
  const line = `release ${SUBNET} ${HELD} --json`;
  const object = { subnet: SUBNET, ip: HELD, eni: ENI, container: 'web', was: 'allocated' };
  const plan = await run(context, MINE, `${line} --dry-run`);
  assert.equal(JSON.parse(plan.out), { ...object, status: 'allocated', released: false });
  assert.match(plan.err, /10\.0\.1\.9 is allocated by web on eni-/);
  const refused = await run(context, MINE, line, 'no');
  assert.is(refused.status, 1);
  assert.equal(JSON.parse(refused.out), { ...object, status: 'allocated', released: false });
  const done = await run(context, MINE, line, 'yes');
  assert.is(done.status, 0);
  assert.equal(JSON.parse(done.out), { ...object, status: 'ready', released: true });
});

for (const line of [
  `recycle ${SUBNET} --idle 0s`,
  'reconcile',
  'reconcile --dry-run',
  `release ${SUBNET} ${HELD} --yes`,
]) {
  commands(`on a cloned image, ${line} refuses and changes nothing`, async context => {
    await used(context);
    const ledger = await ledgerOf(context);
    const { status, err } = await run(context, CLONE, line);
    assert.is(status, 1);
    assert.match(err, new RegExp(`^ec2-ipam: the ledger is that of ${MINE}, and this is ${CLONE}; start`));
    assert.equal(await ledgerOf(context), ledger);
    assert.is(context.vpc.calls.get('UnassignPrivateIpAddresses'), undefined);
  });

  commands(`without instance metadata, ${line} refuses a ledger that has an owner`, async context => {
    await used(context);
    const ledger = await ledgerOf(context);
    const { status, err } = await run(context, null, line);
    assert.is(status, 1);
    assert.match(
      err,
      new RegExp(`^ec2-ipam: the ledger is that of ${MINE}, and nothing says that this is it`),
    );
    assert.equal(await ledgerOf(context), ledger);
  });
}

commands('on a cloned image status reads the ledger as it is, and init begins a new one', async context => {
  await used(context);
  const { status, out } = await run(context, CLONE, 'status --json');
  assert.is(status, 0);
  assert.is(JSON.parse(out).holders.length, 1);
  assert.not(existsSync(`${context.path}.of-${MINE}`));
  assert.is((await run(context, CLONE, `init ${SUBNET}`)).status, 0);
  assert.ok(existsSync(`${context.path}.of-${MINE}`));
  assert.equal(JSON.parse((await run(context, CLONE, 'status --json')).out).holders, []);
});

commands('without instance metadata init leaves a ledger that has an owner alone', async context => {
  await used(context);
  const ledger = await ledgerOf(context);
  const { status, err } = await run(context, null, `init ${SUBNET}`);
  assert.is(status, 1);
  assert.match(err, /nothing says that this is it: .*; see that the instance metadata service answers here/);
  assert.equal(await ledgerOf(context), ledger);
});

commands(
  'without instance metadata a ledger without an owner serves ENIs of any, with a warning',
  async context => {
    const { status, err } = await run(context, null, `init ${SUBNET}`);
    assert.is(status, 0);
    assert.match(err, /"level":"warn","message":"there is no instance metadata here: ENIs of any/);
    assert.is((await run(context, null, 'reconcile')).status, 0);
  },
);

commands("adopt shows what it does, and makes the ENI this ledger's", async context => {
  const { vpc, store } = context;
  await run(context, MINE, `init ${SUBNET}`);
  vpc.network.assign({ eni: ENI, ips: [HELD] });
  const before = await ledgerOf(context);
  const dry = await run(context, MINE, `adopt ${ENI} --dry-run`);
  assert.is(dry.status, 0, dry.all);
  assert.match(dry.out, new RegExp(`${ENI} +${SUBNET} +${MINE} +1 +this ledger's\nwould adopt 1; nothing`));
  assert.equal(await ledgerOf(context), before);
  const { status, out } = await run(context, MINE, `adopt ${ENI} --json`);
  assert.is(status, 0);
  const { adopted, dryRun } = JSON.parse(out);
  assert.equal([adopted[0].eni, adopted[0].addresses, adopted[0].known, dryRun], [ENI, 1, false, false]);
  assert.is((await store.eni(ENI))?.ours, true);
  assert.is((await store.get(SUBNET, [HELD])).rows[0]?.status, 'occupied', 'until Docker releases it');
  assert.match((await run(context, MINE, `adopt ${ENI}`)).out, /this ledger's, as it is\nadopted 1\n$/);
});

commands(
  'adopt refuses what EC2 does not show, and the ENI of another instance, and adopts none',
  async context => {
    await run(context, MINE, `init ${SUBNET}`);
    const gone = await run(context, MINE, `adopt ${ENI} eni-0ff`);
    assert.is(gone.status, 1);
    assert.match(gone.err, /eni-0ff.*InvalidNetworkInterfaceID\.NotFound/);
    assert.is((await context.store.eni(ENI))?.ours, false);
    assert.is((await run(context, MINE, 'adopt eth1')).status, 2);
    const { network } = context.vpc;
    network.detach(network.eni(ENI).attachment?.id ?? '');
    const left = await run(context, MINE, `adopt ${ENI}`);
    assert.is(left.status, 1);
    assert.match(left.err, /is attached to no instance, and this ledger is that of i-/);
  },
);

for (const [what, code, message] of [
  ['is broken', '500', 'no'],
  ['names no instance', '200', ''],
  ['answers with a page of something else', '200', '<html>Please log in</html>'],
] as const)
  commands(`while instance metadata ${what}, a new ledger is not opened for ENIs of any`, async context => {
    context.vpc.faults.add({ kind: 'error', code, message, action: METADATA });
    const { status, err } = await run(context, MINE, `init ${SUBNET}`);
    assert.is(status, 1);
    assert.match(
      err,
      /nothing says which instance this is: .*; see that the instance metadata service answers/,
    );
    context.vpc.faults.clear();
    assert.is((await run(context, MINE, `init ${SUBNET}`)).status, 0);
  });

commands(
  'serve asks until instance metadata say which instance this is, and serves that one',
  async context => {
    const { folder, path, vpc, at } = context;
    process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = at[MINE]?.url;
    for (const message of ['', 'i-'])
      vpc.faults.add({ kind: 'error', code: '200', message, action: METADATA, times: 2 });
    const config = loadConfig({
      flags: new Map([
        ['listen', [`unix:${join(folder, 'x.sock')}`]],
        ['store', [`sqlite:${path}`]],
      ]),
      env: { AWS_REGION: 'eu-central-1' },
      readFile: () => '',
      home: folder,
      isRoot: false,
      isTerminal: false,
      uses: settingNames,
    });
    const output = { write: () => {}, isTerminal: false };
    const io = {
      out: output,
      err: output,
      ask: async () => null,
      signal: new AbortController().signal,
      crashed: new Promise<never>(() => {}),
    };
    const lines: string[] = [];
    const log: Log = (_level, message, fields) => void lines.push(`${message} ${fields?.error ?? ''}`);
    const server = await startServer({ config, io, log, assemble });
    try {
      await server.opened;
      assert.is(await ownerOf({ kind: 'sqlite', path }), MINE);
      assert.ok(
        lines.some(line => /ledger not opened.*nothing says which instance this is/.test(line)),
        lines.join(),
      );
      assert.not(lines.some(line => line.includes('ENIs of any')));
    } finally {
      await server.stop();
    }
  },
);

commands('where instance metadata are turned off, it is as where there are none', async context => {
  context.vpc.faults.add({ kind: 'error', code: '403', message: 'no', action: METADATA });
  const { status, err } = await run(context, MINE, `init ${SUBNET}`);
  assert.is(status, 0);
  assert.match(err, /there is no instance metadata here: ENIs of any/);
});

commands('commands that act on EC2 say "run migrate" and do not migrate', async context => {
  for (const line of ['reconcile', `recycle ${SUBNET}`, `release ${SUBNET} ${HELD}`, `adopt ${ENI}`]) {
    const { status, err } = await run(context, MINE, line);
    assert.is(status, 1);
    assert.match(err, /is at step 0 of \d+: run `ec2-ipam migrate`/);
  }
  assert.match((await context.store.outdated()) ?? '', /step 0/);
});

commands('a port that is taken is told with the flag that demo has', async context => {
  const port = new URL(context.at[MINE]?.url ?? '').port;
  const { status, err } = await run(context, MINE, `demo --port ${port}`);
  assert.is(status, 1);
  assert.match(err, /another process listens there; stop it, or give another --port\n$/);
});

commands('simulate has a port of its own', async context => {
  assert.match((await run(context, MINE, 'simulate --help')).out, /default http:\/\/127\.0\.0\.1:8032 \[/);
  assert.match((await run(context, MINE, 'serve --help')).out, /default http:\/\/127\.0\.0\.1:8031 \[/);
});
commands(
  'commands that act, and serve, end with 1 where the client is of another Region or account',
  async context => {
    await used(context);
    const { vpc, store, folder } = context;
    const serve = `serve --listen unix:${join(folder, 'x.sock')}`;
    const refused = async (told: RegExp) => {
      const ledger = await ledgerOf(context);
      for (const line of ['reconcile', `recycle ${SUBNET}`, `init ${SUBNET}`, `adopt ${ENI}`, serve]) {
        const { status, err } = await run(context, MINE, line);
        assert.is(status, 1, line);
        assert.match(err, told, line);
      }
      assert.equal(await ledgerOf(context), ledger);
    };
    await store.noteFact('region and account', 'us-east-1 123456789012');
    await refused(
      /^ec2-ipam: EC2 is asked in eu-central-1, and the ledger is of us-east-1; set AWS_REGION=us-east-1/m,
    );
    await store.noteFact('region and account', 'eu-central-1 123456789012');
    vpc.network.createEni({ subnet: SUBNET, owner: '210987654321' });
    process.env.AWS_ACCESS_KEY_ID = '210987654321';
    await refused(
      /^ec2-ipam: the credentials are of account 210987654321, and the ledger is of 123456789012; /m,
    );
  },
);

commands('reconcile ends with 1 where EC2 shows its client nothing of the ledger', async context => {
  await used(context);
  const { store } = context;
  await store.noteFact('region and account', '');
  process.env.AWS_ACCESS_KEY_ID = '210987654321';
  const ledger = await ledgerOf(context);
  const { status, out, err } = await run(context, MINE, 'reconcile');
  assert.is(status, 1);
  assert.match(
    err,
    /EC2 shows this client none of the ledger's \d+ ENIs; check its credentials and AWS_REGION/,
  );
  assert.is(out, '');
  assert.equal(await ledgerOf(context), ledger);
});

commands.run();
