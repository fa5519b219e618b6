// Goal: the ledger answers who held an address at a time. Method: main() in this process, with a ledger of its own whose
// moves were made at times that the test says.
import { join } from 'node:path';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import { type Ipv4, parseCidr } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import type { EniId, SubnetId } from '../../../src/domain/ids.ts';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import { CHANGES_MAX } from '../../../src/store/store.ts';
import { keptIo } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { eniWith, make, makeReady, newRow, rowsOf } from '../../kit/ledger.ts';
import { ENI, range, SUBNET } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';

interface Context {
  folder: string;
  run(...argv: string[]): Promise<{ status: number; out: string; err: string }>;
  /** The containers of the holdings that the command prints. */
  who(...argv: string[]): Promise<unknown[]>;
}
const minutes = (count: number): number => count * 60_000;
const [WEB, LATER] = ['c0ffab'.padEnd(64, '0'), 'c0ffee'.padEnd(64, '0')] as const;
const [NOON, NOW] = [Date.parse('2026-11-24T12:00Z'), Date.now()];

const histories = suite<Context>('history');
histories.before.each(async context => {
  context.folder = tempFolder();
  const path = join(context.folder, 'ledger.sqlite');
  context.run = async (...argv) => {
    const { io, written } = keptIo({ signal: AbortSignal.abort() });
    const env = { EC2_IPAM_STORE: `sqlite:${path}`, AWS_REGION: 'eu-central-1' };
    const status = await main(['history', ...argv], env, io, assemble);
    return { status, out: written.out, err: written.err };
  };
  context.who = async (...argv) => {
    const { out } = await context.run(...argv, '--json');
    return JSON.parse(out).holdings.map((one: { container: unknown }) => one.container);
  };
  let now = NOON;
  const store = createSqliteStore(path, { clock: () => now, origin: 'server-1' });
  await store.migrate();
  await store.saveSubnet({ id: SUBNET, vpc: 'vpc-01', cidr: parseCidr('10.0.1.0/24') });
  await store.add([newRow(7), newRow(8)]);
  await makeReady(store, 7);
  const row = await make(store, 7, 'claim', { holder: 'web', call: '3f2a9c1d' });
  await store.noteContainers([{ row, id: WEB }]);
  now = NOON + minutes(10);
  await make(store, 7, 'release', { call: '00c0ffee' });
  now = NOON + minutes(20);
  await make(store, 7, 'claim', { holder: 'db' });
  now = NOON + minutes(30);
  await make(store, 7, 'release', { cause: 'operator' });
  now = NOW - minutes(5);
  await store.noteContainers([{ row: await make(store, 7, 'claim', { holder: 'web' }), id: LATER }]);
  now = NOW - minutes(4);
  await make(store, 8, 'assign', { iface: ENI, ec2: { id: 'call-1' } });
  now += 250;
  await make(store, 8, 'assigned', { ec2: { id: 'call-1', result: 'done' } });
  now = NOW - minutes(3);
  await make(store, 8, 'unassign', { ec2: { id: 'call-2' } });
  await store.close();
});
histories.after.each(({ folder }) => removeFolder(folder));

histories(
  'an address: has its holdings, the newest first, with calls and what ended them',
  async ({ run }) => {
    const { status, out, err } = await run('10.0.1.7');
    assert.equal([status, err], [0, '']);
    const [head, ...lines] = out.trimEnd().split('\n');
    assert.match(String(head), /^SINCE +UNTIL +CONTAINER +ID +ENI +INSTANCE +ENDED BY +REQUEST +SUBNET$/);
    assert.is(lines.length, 3);
    assert.match(
      String(lines[0]),
      new RegExp(`^\\S+Z +now +web +c0ffee000000 +${ENI} +- +- +- - +${SUBNET}$`),
    );
    assert.match(
      String(lines[1]),
      /^2026-11-24T12:20:00\.000Z +2026-11-24T12:30:00\.000Z +db +- +\S+ .* operator /,
    );
    assert.match(
      String(lines[2]),
      /^2026-11-24T12:00:00\.000Z .* web +c0ffab000000 .* release +3f2a9c1d 00c0ffee /,
    );
    const { address, holdings } = JSON.parse((await run('10.0.1.7', '--json')).out);
    assert.is(address, '10.0.1.7');
    assert.equal(holdings[2], {
      ...{ since: '2026-11-24T12:00:00.000Z', until: '2026-11-24T12:10:00.000Z', subnet: SUBNET },
      ...{
        isHeld: false,
        eni: ENI,
        instance: null,
        container: 'web',
        containerId: WEB,
        request: '3f2a9c1d',
        server: 'server-1',
      },
      ...{ endedBy: 'release', endRequest: '00c0ffee', endServer: 'server-1' },
    });
  },
);

const ASKED: [what: string, argv: string[], who: string[]][] = [
  ['a time within a holding', ['--at', '2026-11-24T12:05Z'], ['web']],
  ['a time in another zone', ['--at', '2026-11-24T13:25:00+01:00'], ['db']],
  ['a time between two', ['--at', '2026-11-24T12:15Z'], []],
  ['a time before all', ['--at', '2026-11-24T11:00Z'], []],
  ['since a while', ['--since', '1h'], ['web']],
  ['a container', ['--container', 'web'], ['web', 'web']],
  ['the id of a container', ['--container', WEB], ['web']],
  ['its digits that Docker shows', ['--container', WEB.slice(0, 12)], ['web']],
  ['the start of two ids', ['--container', 'c0ff'], ['web', 'web']],
  ['a start that is too short', ['--container', 'c0f'], []],
  ['another id', ['--container', 'c0ffad'], []],
  ['digits inside an id', ['--container', '0ffe'], []],
  ['more than an id', ['--container', `${WEB}0`], []],
  ['an ENI', ['--eni', ENI], ['web', 'db', 'web']],
  ['another ENI', ['--eni', 'eni-0b'], []],
  ['its subnet', ['--subnet', SUBNET, '--container', 'db'], ['db']],
];
for (const [what, argv, who] of ASKED)
  histories(`${what}: chooses the holdings`, async context => {
    assert.equal(await context.who('10.0.1.7', ...argv), who);
  });

histories(
  'a clock that was set back while an address was held: it was held between the two times',
  async context => {
    const path = join(context.folder, 'ledger.sqlite');
    let now = NOON + minutes(100);
    const store = createSqliteStore(path, { clock: () => now, origin: 'server-1' });
    await make(store, 8, 'unassigned');
    await makeReady(store, 8);
    await make(store, 8, 'claim', { holder: 'back' });
    now = NOON + minutes(50);
    await make(store, 8, 'release');
    await store.close();
    for (const [at, who] of [
      ['2026-11-24T12:49Z', []],
      ['2026-11-24T12:50Z', ['back']],
      ['2026-11-24T13:40Z', ['back']],
      ['2026-11-24T13:41Z', []],
    ] as const)
      assert.equal(await context.who('10.0.1.8', '--at', at), who, at);
  },
);

histories('a time to come: is refused, since nobody knows who will hold it', async ({ run }) => {
  const at = new Date(NOW + minutes(60)).toISOString();
  const { status, out, err } = await run('10.0.1.7', '--at', at);
  assert.equal([status, out], [2, '']);
  assert.match(err, /the time of --at is still to come; by the ledger's clock it is \S+Z\n$/);
});

histories("a clock that is a little ahead of the ledger's: asks for now", async ({ who }) => {
  const at = new Date(Date.now() + 30_000).toISOString();
  assert.equal(await who('10.0.1.7', '--at', at), ['web']);
});

histories('an address of two subnets: has the holdings of both by their ends', async ({ run, folder }) => {
  let now = NOON + minutes(15);
  const store = createSqliteStore(join(folder, 'ledger.sqlite'), { clock: () => now, origin: 'server-1' });
  const other = 'subnet-0b2' as SubnetId;
  await store.saveSubnet({ id: other, vpc: 'vpc-02', cidr: parseCidr('10.0.1.0/24') });
  await store.add([{ ...newRow(7), subnet: other }]);
  const row = async () => (await store.get(other, ['10.0.1.7' as Ipv4])).rows[0] as Allocation;
  await store.move([{ row: await row(), move: 'assign', iface: 'eni-0b' as EniId }]);
  await store.move([{ row: await row(), move: 'assigned' }]);
  await store.move([{ row: await row(), move: 'claim', holder: 'mail' }]);
  now += minutes(1);
  await store.move([{ row: await row(), move: 'release' }]);
  await store.close();
  const { holdings } = JSON.parse((await run('10.0.1.7', '--json')).out);
  assert.equal(
    holdings.map((one: { container: unknown }) => one.container),
    ['web', 'db', 'mail', 'web'],
  );
});

histories('--calls: shows what EC2 was asked for the address, and what came of it', async ({ run }) => {
  const { calls } = JSON.parse((await run('10.0.1.8', '--calls', '--json')).out);
  assert.equal(
    calls.map(({ action, eni, ips, tookMs, result }: Record<string, unknown>) => [
      ...[action, eni, ips, tookMs, result],
    ]),
    [
      ['unassign', ENI, ['10.0.1.8'], null, null],
      ['assign', ENI, ['10.0.1.8'], 250, 'done'],
    ],
  );
  const [head, , last] = (await run('10.0.1.8', '--calls')).out.split('\n');
  assert.match(String(head), /^AT +ACTION +ENI +SUBNET +ADDRESSES +TOOK +RESULT$/);
  assert.match(String(last), /^\S+Z +assign +eni-0a +- +1 +250 ms +done$/);
  for (const more of [
    ['--eni', 'eni-0b'],
    ['--since', '1m'],
    ['--at', '2026-11-24T12:05Z'],
  ])
    assert.is((await run('10.0.1.8', '--calls', ...more)).out, 'nothing is noted\n', more.join(' '));
  assert.is((await run('10.0.1.7', '--calls')).out, 'nothing is noted\n', 'of another address');
});

histories('--calls with --at: shows the calls of the day before that time', async ({ run, folder }) => {
  let now = NOON + minutes(60);
  const store = createSqliteStore(join(folder, 'ledger.sqlite'), { clock: () => now, origin: 'server-1' });
  await make(store, 8, 'unassigned');
  await make(store, 8, 'assign', { iface: ENI, ec2: { id: 'call-3' } });
  now += minutes(90);
  await make(store, 8, 'assigned', { ec2: { id: 'call-3', result: 'late' } });
  await store.close();
  const results = async (...argv: string[]) =>
    JSON.parse((await run('10.0.1.8', '--calls', '--json', ...argv)).out).calls.map(
      (one: { result: unknown }) => one.result,
    );
  assert.equal(await results('--at', '2026-11-24T13:30Z'), ['late']);
  assert.equal(await results('--at', '2026-11-24T12:30Z'), []);
  assert.equal(await results('--at', '2026-11-26T13:30Z'), []);
  const at = new Date(NOW + minutes(60)).toISOString();
  assert.match((await run('10.0.1.8', '--calls', '--at', at)).err, /the time of --at is still to come/);
});

histories('--calls: says so where there are more calls than it reads', async ({ run, folder }) => {
  const store = createSqliteStore(join(folder, 'ledger.sqlite'));
  const lasts = range(CHANGES_MAX / 4, 9);
  await store.add(lasts.map(last => newRow(last)));
  let calls = 0;
  while (calls < 10_000) {
    const sent = (await rowsOf(store, lasts)).map(row => ({
      ...{ row, move: 'assign' as const, iface: ENI, ec2: { id: `call-n${calls++}` } },
    }));
    const refused = (await store.move(sent)).map(row => ({ row, move: 'refused' as const }));
    await store.move(refused);
  }
  await store.close();
  const { status, out, err } = await run('10.0.1.8', '--calls');
  assert.equal([status, out], [0, 'nothing is noted\n']);
  assert.is(err, 'only the newest 10000 calls were read, and older ones may have named it\n');
});

histories(
  '--calls: tells two subnets with one CIDR apart by the ENI of the call',
  async ({ run, folder }) => {
    const store = createSqliteStore(join(folder, 'ledger.sqlite'));
    const other = 'subnet-0b2' as SubnetId;
    await store.saveSubnet({ id: other, vpc: 'vpc-02', cidr: parseCidr('10.0.1.0/24') });
    const count = async (...argv: string[]) =>
      JSON.parse((await run('10.0.1.8', '--calls', '--json', ...argv)).out).calls.length;
    assert.equal(
      [await count(), await count('--subnet', other)],
      [2, 2],
      'an ENI that is not known may be of any',
    );
    await store.saveEnis([eniWith()]);
    const { calls } = JSON.parse((await run('10.0.1.8', '--calls', '--json')).out);
    assert.equal(
      calls.map((one: { subnet: unknown }) => one.subnet),
      [SUBNET, SUBNET],
    );
    assert.equal([await count('--subnet', SUBNET), await count('--subnet', other)], [2, 0]);
    await store.close();
  },
);

histories('an address that nobody held, and one of no subnet: have none', async ({ run }) => {
  for (const address of ['10.0.1.8', '10.9.9.9'])
    assert.equal((await run(address)).out, 'nothing is noted\n');
});

for (const [what, argv] of [
  ['a time without a zone', ['10.0.1.7', '--at', '2026-11-24T12:05']],
  ['a day that is none', ['10.0.1.7', '--at', '2026-13-24T12:05Z']],
  ['a day that its month has not', ['10.0.1.7', '--at', '2026-02-30T12:05Z']],
  ['the calls of a container', ['10.0.1.7', '--calls', '--container', 'web']],
  ['no address', ['10.0.1']],
  ['what is no ENI', ['10.0.1.7', '--eni', 'web']],
  ['what is no ENI, for calls', ['10.0.1.7', '--calls', '--eni', 'web']],
  ['a subnet that the ledger has not', ['10.0.1.7', '--subnet', 'subnet-0ff' as SubnetId]],
] as const)
  histories(`${what}: is wrong usage`, async ({ run }) => assert.is((await run(...argv)).status, 2));

histories.run();
