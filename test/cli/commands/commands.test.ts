// Goal: what the commands do to a ledger and to EC2, and what they say of it. Method: main() in this process, with an
// embedded ledger and the simulator, whose metadata service says which instance this is.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import { startServer } from '../../../src/cli/commands/serve.ts';
import { parseCidr } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import type { EniId, InstanceId, SubnetId } from '../../../src/domain/ids.ts';
import type { Log } from '../../../src/domain/log.ts';
import type { LedgerSighting } from '../../../src/domain/sighting.ts';
import { TENANT_TAG } from '../../../src/domain/tenant.ts';
import { METADATA } from '../../../src/simulator/model/faults.ts';
import type { Vpc } from '../../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../../src/simulator/simulator.ts';
import { createStore, ownerOf } from '../../../src/store/create-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { configOf, keptIo, type Written } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { putOn } from '../../kit/ledger.ts';
import { noteSightings, sightingWith } from '../../kit/sightings.ts';
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
const IDLE = ip('10.0.1.10');
const NOWHERE = 'http://127.0.0.1:9';
const ANY_WARNING = /"level":"warn","message":"no instance metadata found, ENIs of any/;

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
  context.folder = tempFolder();
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
  removeFolder(folder);
});
commands.after(() => {
  for (const [i, name] of ENVIRONMENT.entries())
    if (before[i] === undefined) delete process.env[name];
    else process.env[name] = before[i];
});

/** Runs a command as on the instance, where it ends with the status; null: where there is no metadata service. */
async function run(
  { path, at }: Context,
  on: InstanceId | null,
  line: string,
  status = 0,
  answer = '',
): Promise<Written> {
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = on === null ? NOWHERE : at[on]?.url;
  // A server goes on until something ends it.
  const signal = line.startsWith('serve') ? new AbortController().signal : AbortSignal.abort();
  const { io, written } = keptIo({ signal, ask: async () => answer });
  const env = {
    AWS_REGION: 'eu-central-1',
    EC2_IPAM_STORE: `sqlite:${path}`,
    EC2_IPAM_LOG_FORMAT: 'json',
  };
  assert.is(await main(line.split(' '), env, io, assemble), status, `${line}: ${written.all}`);
  return written;
}
/** The command ends with 1 and says why, and the ledger is as before. */
async function refuses(context: Context, on: InstanceId | null, line: string, says: RegExp): Promise<void> {
  const ledger = await ledgerOf(context);
  assert.match((await run(context, on, line, 1)).err, says, line);
  assert.equal(await ledgerOf(context), ledger);
}

/** A ledger of this instance with a held address, and one that is ready; EC2 has both. */
async function used(context: Context): Promise<void> {
  const { store, vpc } = context;
  await run(context, MINE, `init ${SUBNET}`);
  await store.adopt(ENI);
  const ips = [HELD, IDLE];
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

commands('status of a ledger without a subnet: tells the age of its servers all the same', async context => {
  await context.store.migrate();
  await context.store.beat('a', false);
  const { out } = await run(context, MINE, 'status --json');
  const [server] = JSON.parse(out).servers;
  assert.ok(server.seenMs >= 0 && server.seenMs < 60_000, out);
});

commands('reconcile: prints each difference before it closes it', async context => {
  await used(context);
  context.vpc.network.assign({ eni: ENI, ips: [ip('10.0.1.12')] });
  const { out, all } = await run(context, MINE, 'reconcile');
  assert.match(out, /10\.0\.1\.12/);
  const [said, closed] = [all.indexOf(out.split('\n')[0] ?? ''), all.indexOf('"drift: ')];
  assert.ok(said >= 0 && closed >= 0 && said < closed, all);
});

commands('recycle: unassigns what is idle, of each ENI in turn', async context => {
  await used(context);
  assert.match((await run(context, MINE, `recycle ${SUBNET} --idle 0s`)).out, /unassigned 1 of 1\n$/);
  assert.equal(context.vpc.network.eni(ENI).secondaries, [HELD]);
});

commands('hold: outlives init, recycle and reconcile; unhold ends it', async context => {
  await used(context);
  const held = ip('10.0.1.12');
  await run(context, MINE, `hold ${held} --why printer`);
  const rowOf = async () => (await context.store.get(SUBNET, [held])).rows[0];
  const row = await rowOf();
  assert.equal([row?.status, row?.reservedFor], ['reserved', 'printer']);
  context.vpc.network.assign({ eni: ENI, ips: [held] }); // the operator uses it
  context.vpc.network.addReservation(SUBNET, parseCidr('10.0.1.12/30'), 'prefix');
  for (const line of [`init ${SUBNET}`, `recycle ${SUBNET} --idle 0s`, 'reconcile', `init ${SUBNET}`])
    await run(context, MINE, line);
  assert.equal(await rowOf(), row);
  assert.match(
    (await run(context, MINE, `release ${SUBNET} ${held}`, 1)).err,
    /is reserved: nobody holds it/,
  );
  await run(context, MINE, `unhold ${held}`);
  assert.is((await rowOf())?.status, 'free');
});

commands('release --json: is one object on stdout; whom it hits is shown on stderr before', async context => {
  await used(context);
  const line = `release ${SUBNET} ${HELD} --json`;
  const object = { subnet: SUBNET, ip: HELD, eni: ENI, container: 'web', was: 'allocated' };
  const plan = await run(context, MINE, `${line} --dry-run`);
  assert.equal(JSON.parse(plan.out), { ...object, status: 'allocated', released: false });
  assert.match(plan.err, /10\.0\.1\.9 is allocated by web on eni-/);
  const refused = await run(context, MINE, line, 1, 'no');
  assert.equal(JSON.parse(refused.out), { ...object, status: 'allocated', released: false });
  const done = await run(context, MINE, line, 0, 'yes');
  assert.equal(JSON.parse(done.out), { ...object, status: 'ready', released: true });
  assert.is((await context.store.history(SUBNET, HELD, 1)).rows[0]?.endedBy, 'operator');
});

commands(
  'what the host shows: stands in status and in release, by container and beside suspects',
  async context => {
    await used(context);
    const { store } = context;
    const rows = (await store.onEni(ENI)).rows;
    const [held, idle] = [HELD, IDLE].map(one => rows.find(row => row.ip === one));
    if (held === undefined || idle === undefined) throw new Error('not in the ledger');
    const { now } = await store.servers();
    const of = (row: Allocation, patch: Partial<LedgerSighting>) =>
      sightingWith(0, { subnet: SUBNET, ip: row.ip, iface: ENI, generation: row.generation, ...patch });
    const unseen = { unseenSince: now - 300_000, unseenReadings: 5, name: 'name-by-docker' };
    const stray = { usedSince: now, usedReadings: 1, finding: 'process 9 (runc init)' };
    await noteSightings(store, [of(held, unseen), of(idle, stray)]);
    await store.noteFact('ended by evidence', '4');
    const status = JSON.parse((await run(context, MINE, 'status --json')).out);
    assert.equal(
      status.unseen.map(({ ip, readings }: { ip: string; readings: number }) => `${ip} ${readings}`),
      [`${HELD} 5`],
    );
    assert.ok(status.unseen[0].unseenMs >= 300_000);
    assert.is(status.withheld[0].finding, 'process 9 (runc init)');
    assert.is(status.endedByEvidence, 4);
    assert.equal([status.hosts[0].instance, status.hosts[0].incomplete], ['i-0a', null]);
    assert.is(status.holders[0].container, 'web', "the engine's own word comes first");
    const text = (await run(context, MINE, 'status')).out;
    assert.match(text, /Not seen: held, but in use nowhere on the host\n.*\n10\.0\.1\.9 .* 5m, 5 readings/);
    assert.match(
      text,
      /Withheld: in use on the host, but not held\n.*\n10\.0\.1\.\d+ .*process 9 \(runc init\)/,
    );
    assert.match(text, /Holdings ended by evidence of the host: 4\n/);
    const plan = (ip: string) => run(context, MINE, `release ${SUBNET} ${ip} --dry-run`);
    assert.match((await plan(HELD)).out, /not seen by Docker or the kernel for 300 s \(5 readings\)/);
    assert.match((await plan(IDLE)).out, /in use by process 9 \(runc init\)/);
    assert.is((await store.usedSightings()).rows.length, 1);
    const { out } = await run(context, MINE, `release ${SUBNET} ${IDLE} --yes --json`);
    assert.equal(
      [JSON.parse(out).status, JSON.parse(out).released, (await store.usedSightings()).rows],
      ['ready', true, []],
    );
    assert.match(
      (await run(context, MINE, `release ${SUBNET} ${IDLE} --yes`, 1)).err,
      /nobody holds it/,
      'it is withheld no more',
    );
  },
);

const CLONED = new RegExp(`^ec2-ipam: the ledger is that of ${MINE}, and this is ${CLONE}; start`);
const UNKNOWN = new RegExp(`^ec2-ipam: the ledger is that of ${MINE}, and nothing says that this is it`);
for (const line of [
  `recycle ${SUBNET} --idle 0s`,
  'reconcile',
  'reconcile --dry-run',
  `release ${SUBNET} ${HELD} --yes`,
]) {
  commands(`${line} on a cloned image: refuses and changes nothing`, async context => {
    await used(context);
    await refuses(context, CLONE, line, CLONED);
    assert.is(context.vpc.calls.get('UnassignPrivateIpAddresses'), undefined);
  });
  commands(`${line} without instance metadata: refuses a ledger that has an owner`, async context => {
    await used(context);
    await refuses(context, null, line, UNKNOWN);
  });
}

commands('tenant: declares, lists and removes quotas, and status shows them', async context => {
  const { store } = context;
  await run(context, MINE, `init ${SUBNET}`);
  const text = async (line: string, status = 0) => (await run(context, MINE, line, status)).all;
  assert.is(await text('tenant list'), 'no tenant is declared\n');
  assert.not((await text('status')).includes('Tenants'));
  context.vpc.network.tag(ENI, { [TENANT_TAG]: 'blue' });
  await run(context, MINE, `init ${SUBNET}`);
  await putOn(store, (await store.get(SUBNET, [HELD])).rows, ENI);
  assert.is(await text('tenant set Red --quota 5'), 'tenant red may have 5 addresses and uses 0\n');
  assert.match(
    await text('status'),
    /\nTenants\nTENANT +QUOTA +USED +LEFT +PROFILE\nblue +not declared +1 +- +-\nred +5 +0 +5 +-\n/,
  );
  const over = 'tenant blue may have 0 addresses and uses 1; it gets no further one until it uses less\n';
  assert.is(await text('tenant set blue --quota 0'), over);
  const blue = { name: 'blue', quota: 0, profile: null, used: 1 };
  for (const line of ['status --json', 'tenant list --json', 'tenant set red --quota 7 --json'])
    assert.equal(JSON.parse((await run(context, MINE, line)).out).tenants[0], blue);
  await text('tenant set red --quota 7 --profile web');
  assert.match(await text('tenant list'), /^red +7 +0 +7 +web$/m);
  const taken = 'the instance profile web is that of tenant red; give red another one first';
  assert.match(await text('tenant set blue --quota 0 --profile web', 1), taken);
  assert.is(await text('tenant remove red'), 'tenant red has no quota any more\n');
  assert.equal(await store.tenants(), [blue]);
});

commands('tenant: wrong arguments change nothing, and the error says what to give', async context => {
  await run(context, MINE, `init ${SUBNET}`);
  for (const [line, why] of [
    ['tenant set red', /give set NAME --quota N .--profile PROFILE., list, or remove NAME/],
    ['tenant set --quota 5', /give set NAME/],
    ['tenant list red', /give set NAME/],
    ['tenant remove red --quota 5', /give set NAME/],
    ['tenant list --profile web', /give set NAME/],
    ['tenant grow red --quota 5', /give set NAME/],
    ['tenant set a/b --quota 5', /NAME "a.b" is not a name of a tenant; use 1 to 64 letters/],
    ['tenant set red --quota -5', /--quota/],
    ['tenant remove red', /there is no tenant red; see .ec2-ipam tenant list/],
  ] as const)
    assert.match((await run(context, MINE, line, 2)).err, why, line);
  assert.equal(await context.store.tenants(), []);
});

commands('a cloned image: status reads the ledger as it is, and init begins a new one', async context => {
  await used(context);
  const holders = async () => JSON.parse((await run(context, CLONE, 'status --json')).out).holders;
  assert.is((await holders()).length, 1);
  assert.not(existsSync(`${context.path}.of-${MINE}`));
  await run(context, CLONE, `init ${SUBNET}`);
  assert.ok(existsSync(`${context.path}.of-${MINE}`));
  assert.equal(await holders(), []);
});

commands('init without instance metadata: leaves a ledger that has an owner alone', async context => {
  await used(context);
  const says = /nothing says that this is it: .*; see that the instance metadata service answers here/;
  await refuses(context, null, `init ${SUBNET}`, says);
});

commands('without instance metadata: a ledger of nobody serves ENIs of any, and warns', async context => {
  const { err } = await run(context, null, `init ${SUBNET}`);
  assert.match(err, ANY_WARNING);
  await run(context, null, 'reconcile');
});

commands("adopt: shows what it does, and makes the ENI this ledger's", async context => {
  const { vpc, store } = context;
  await run(context, MINE, `init ${SUBNET}`);
  vpc.network.assign({ eni: ENI, ips: [HELD] });
  const before = await ledgerOf(context);
  const { out } = await run(context, MINE, `adopt ${ENI} --dry-run`);
  assert.match(out, new RegExp(`${ENI} +${SUBNET} +${MINE} +1 +this ledger's\nwould adopt 1; nothing`));
  assert.equal(await ledgerOf(context), before);
  const { adopted, dryRun } = JSON.parse((await run(context, MINE, `adopt ${ENI} --json`)).out);
  assert.equal([adopted[0].eni, adopted[0].addresses, adopted[0].known, dryRun], [ENI, 1, false, false]);
  assert.is((await store.eni(ENI))?.ours, true);
  assert.is((await store.get(SUBNET, [HELD])).rows[0]?.status, 'occupied', 'until Docker releases it');
  assert.match((await run(context, MINE, `adopt ${ENI}`)).out, /this ledger's, as it is\nadopted 1\n$/);
});

commands('adopt: refuses what EC2 does not show, or another instance has, and adopts none', async context => {
  await run(context, MINE, `init ${SUBNET}`);
  await refuses(context, MINE, `adopt ${ENI} eni-0ff`, /eni-0ff.*InvalidNetworkInterfaceID\.NotFound/);
  assert.is((await context.store.eni(ENI))?.ours, false);
  await run(context, MINE, 'adopt eth1', 2);
  const { network } = context.vpc;
  network.detach(network.eni(ENI).attachment?.id ?? '');
  const { err } = await run(context, MINE, `adopt ${ENI}`, 1);
  assert.match(err, /is attached to no instance, and this ledger is that of i-/);
});

const broken: [what: string, code: string, message: string][] = [
  ['is broken', '500', 'no'],
  ['names no instance', '200', ''],
  ['answers with a page of something else', '200', '<html>Please log in</html>'],
];
for (const [what, code, message] of broken)
  commands(`while instance metadata ${what}: a new ledger is not opened for ENIs of any`, async context => {
    context.vpc.faults.add({ kind: 'error', code, message, action: METADATA });
    const { err } = await run(context, MINE, `init ${SUBNET}`, 1);
    assert.match(
      err,
      /nothing says which instance this is: .*; see that the instance metadata service answers/,
    );
    context.vpc.faults.clear();
    await run(context, MINE, `init ${SUBNET}`);
  });

commands('serve: asks until instance metadata say which instance this is, and serves it', async context => {
  const { folder, path, vpc, at } = context;
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = at[MINE]?.url;
  for (const message of ['', 'i-'])
    vpc.faults.add({ kind: 'error', code: '200', message, action: METADATA, times: 2 });
  const flags = { listen: [`unix:${join(folder, 'x.sock')}`], store: [`sqlite:${path}`] };
  const config = configOf({ flags, env: { AWS_REGION: 'eu-central-1' }, home: folder, isRoot: false });
  const lines: string[] = [];
  const log: Log = (_level, message, fields) => void lines.push(`${message} ${fields?.error ?? ''}`);
  const server = await startServer({ config, io: keptIo().io, log, assemble });
  try {
    await server.opened;
    assert.is(await ownerOf({ kind: 'sqlite', path }), MINE);
    assert.match(lines.join('\n'), /ledger not opened.*nothing says which instance this is/);
    assert.not.match(lines.join('\n'), 'ENIs of any');
  } finally {
    await server.stop();
  }
});

commands('instance metadata turned off: it is as where there are none', async context => {
  context.vpc.faults.add({ kind: 'error', code: '403', message: 'no', action: METADATA });
  assert.match((await run(context, MINE, `init ${SUBNET}`)).err, ANY_WARNING);
});

commands('commands that act on EC2: say "run migrate" and do not migrate', async context => {
  for (const line of ['reconcile', `recycle ${SUBNET}`, `release ${SUBNET} ${HELD}`, `adopt ${ENI}`]) {
    const { err } = await run(context, MINE, line, 1);
    assert.match(err, /is at step 0 of \d+: run `ec2-ipam migrate`/);
  }
  assert.match((await context.store.outdated()) ?? '', /step 0/);
});

commands('a port that is taken: is told with the flag that demo has', async context => {
  const port = new URL(context.at[MINE]?.url ?? '').port;
  const { err } = await run(context, MINE, `demo --port ${port}`, 1);
  assert.match(err, /another process listens there; stop it, or give another --port\n$/);
});

commands('simulate: has a port of its own', async context => {
  assert.match((await run(context, MINE, 'simulate --help')).out, /default http:\/\/127\.0\.0\.1:8033 \[/);
  assert.match(
    (await run(context, MINE, 'serve --help')).out,
    /default unix:\/run\/docker\/plugins\/ec2-ipam\.sock for root, else a socket in the state\s+directory \[/,
  );
});

commands('a client of another Region or account: ends what acts, and serve, with 1', async context => {
  await used(context);
  const { vpc, store, folder } = context;
  const serve = `serve --listen unix:${join(folder, 'x.sock')}`;
  const refused = async (says: RegExp) => {
    for (const line of ['reconcile', `recycle ${SUBNET}`, `init ${SUBNET}`, `adopt ${ENI}`, serve])
      await refuses(context, MINE, line, says);
  };
  await store.noteFact('region and account', 'us-east-1 123456789012');
  await refused(
    /^ec2-ipam: the EC2 client is in eu-central-1, the ledger in us-east-1; set AWS_REGION=us-east-1/m,
  );
  await store.noteFact('region and account', 'eu-central-1 123456789012');
  vpc.network.createEni({ subnet: SUBNET, owner: '210987654321' });
  process.env.AWS_ACCESS_KEY_ID = '210987654321';
  await refused(/^ec2-ipam: the credentials belong to account 210987654321, the ledger to 123456789012; /m);
});

commands('reconcile: ends with 1 where EC2 shows its client nothing of the ledger', async context => {
  await used(context);
  await context.store.noteFact('region and account', '');
  process.env.AWS_ACCESS_KEY_ID = '210987654321';
  const ledger = await ledgerOf(context);
  const { out, err } = await run(context, MINE, 'reconcile', 1);
  assert.match(
    err,
    /EC2 shows this client none of the ledger's \d+ ENIs; check its credentials and AWS_REGION/,
  );
  assert.is(out, '');
  assert.equal(await ledgerOf(context), ledger);
});
commands.run();
