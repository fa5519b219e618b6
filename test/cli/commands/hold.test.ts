// Goal: an operator reserves free addresses and no others, and gives them back. Method: main() in this process, with a
// ledger of its own, and no EC2.
import { join } from 'node:path';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import type { Assemble } from '../../../src/cli/command.ts';
import { parseCidr } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import type { SubnetId } from '../../../src/domain/ids.ts';
import { createStore } from '../../../src/store/create-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { keptIo } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { make, makeReady, newRow } from '../../kit/ledger.ts';
import { ENI, ip, range, SUBNET } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';

interface Context {
  folder: string;
  store: Store;
  assemble: Assemble;
  run(...argv: string[]): Promise<{ status: number; out: string; err: string }>;
  statusOf(last: number): Promise<string>;
}
const holds = suite<Context>('hold and unhold');
holds.before.each(async context => {
  context.folder = tempFolder();
  const path = join(context.folder, 'ledger.sqlite');
  context.store = await createStore({ kind: 'sqlite', path });
  await context.store.migrate();
  await context.store.saveSubnet({ id: SUBNET, vpc: 'vpc-01', cidr: parseCidr('10.0.1.0/24') });
  await context.store.add(range(30).map(last => newRow(last)));
  context.assemble = assemble;
  context.run = async (...argv) => {
    const { io, written } = keptIo({ signal: AbortSignal.abort() });
    const env = { EC2_IPAM_STORE: `sqlite:${path}`, AWS_REGION: 'eu-central-1' };
    const status = await main(argv, env, io, context.assemble);
    return { status, out: written.out, err: written.err };
  };
  context.statusOf = async last => (await rowOf(context, last)).status;
});
holds.after.each(async ({ folder, store }) => {
  await store.close();
  removeFolder(folder);
});
async function rowOf({ store }: Context, last: number): Promise<Allocation> {
  const [row] = (await store.get(SUBNET, [ip(last)])).rows;
  assert.ok(row);
  return row;
}

for (const [what, args, lasts] of [
  ['an address', ['10.0.1.7'], [7]],
  ['a range', ['10.0.1.7-10.0.1.9'], [7, 8, 9]],
  ['a block', ['10.0.1.8/30'], [8, 9, 10, 11]],
  ['several that overlap', ['10.0.1.7-10.0.1.9', '10.0.1.8/30'], [7, 8, 9, 10, 11]],
] as const)
  holds(`${what}: is reserved with its reason, shown in status, and free again`, async context => {
    const { run, statusOf, store } = context;
    const held = await run('hold', ...args, '--why', 'for the  printer\n');
    assert.equal([held.status, held.err, held.out], [0, '', `reserved ${lasts.length} of ${lasts.length}\n`]);
    for (const last of lasts) {
      const { status, reservedFor } = await rowOf(context, last);
      assert.equal([status, reservedFor], ['reserved', 'for the  printer']);
    }
    const { rows } = await store.withStatus(SUBNET, ['reserved']);
    assert.is(rows.length, lasts.length);
    const { reserved } = JSON.parse((await run('status', '--json')).out);
    const [first = 0, last = 0] = [lasts[0], lasts.at(-1)];
    const addresses = first === last ? `10.0.1.${first}` : `10.0.1.${first}-10.0.1.${last}`;
    assert.is(reserved.length, 1);
    const { sinceMs, ...told } = reserved[0];
    assert.equal(told, { subnet: SUBNET, addresses, count: lasts.length, why: 'for the  printer' });
    assert.ok(sinceMs >= 0 && sinceMs < 60_000);
    assert.match((await run('status')).out, new RegExp(`\n${addresses} .* for the  printer\n`));
    assert.is((await run('unhold', ...args)).out, `freed ${lasts.length} of ${lasts.length}\n`);
    for (const one of lasts) assert.is(await statusOf(one), 'free');
    assert.is((await rowOf(context, first)).reservedFor, null);
    assert.equal(JSON.parse((await run('status', '--json')).out).reserved, []);
  });

holds('what is not free: is left as it is and told, and the rest is reserved', async context => {
  const { run, store } = context;
  await makeReady(store, 7);
  await makeReady(store, 8);
  await make(store, 8, 'claim', { holder: 'web' });
  await make(store, 9, 'reserve');
  await run('hold', '10.0.1.10', '--why', 'mine');
  const before = await Promise.all([7, 8, 9, 10].map(last => rowOf(context, last)));
  const { status, out } = await run('hold', '10.0.1.3-10.0.1.11', '10.0.1.200', '--why', 'yours', '--json');
  assert.is(status, 1);
  assert.equal(JSON.parse(out), {
    reserved: ['10.0.1.4', '10.0.1.5', '10.0.1.6', '10.0.1.11'],
    left: [
      { ip: '10.0.1.3', why: 'is reserved by AWS' },
      { ip: '10.0.1.7', why: `is ready on ${ENI}` },
      { ip: '10.0.1.8', why: `is allocated by web on ${ENI}` },
      { ip: '10.0.1.9', why: 'is reserved' },
      { ip: '10.0.1.10', why: 'is reserved: mine' },
      { ip: '10.0.1.200', why: 'is not in the ledger' },
    ],
    why: 'yours',
  });
  assert.equal(await Promise.all([7, 8, 9, 10].map(last => rowOf(context, last))), before);
});

holds('again: changes nothing, and is no error', async context => {
  const { run } = context;
  await run('hold', '10.0.1.7', '--why', 'mine');
  const before = await rowOf(context, 7);
  const again = await run('hold', '10.0.1.7', '--why', 'mine');
  assert.equal([again.status, again.out], [0, 'reserved 1 of 1\n']);
  assert.equal(await rowOf(context, 7), before);
  await run('unhold', '10.0.1.7');
  assert.equal((await run('unhold', '10.0.1.7')).status, 0);
});

holds('unhold: frees nothing that no operator has reserved', async context => {
  const { run, store, statusOf } = context;
  await makeReady(store, 7);
  await make(store, 9, 'reserve');
  const { status, out } = await run('unhold', '10.0.1.7', '10.0.1.9');
  assert.is(status, 1);
  assert.match(
    out,
    /^freed 0 of 2\nLEFT .*\n10\.0\.1\.7 .* no operator has reserved it\n10\.0\.1\.9 .* it\n$/,
  );
  assert.equal([await statusOf(7), await statusOf(9)], ['ready', 'reserved']);
});

holds('a row that a server changes meanwhile: is left to it', async context => {
  const { run, store, statusOf } = context;
  context.assemble = async (config, log) => {
    const parts = await assemble(config, log);
    const move: Store['move'] = async changes => {
      await make(store, 7, 'assign', { iface: ENI });
      return await parts.store.move(changes);
    };
    return { ...parts, store: { ...parts.store, move } };
  };
  const { status, out } = await run('hold', '10.0.1.7-10.0.1.8', '--why', 'mine');
  assert.is(status, 1);
  assert.match(out, /^reserved 1 of 2\nLEFT .*\n10\.0\.1\.7 +changed meanwhile: try again\n$/);
  assert.equal([await statusOf(7), await statusOf(8)], ['assigning', 'reserved']);
});

const WRONG: [why: string, argv: string[], says: RegExp][] = [
  ['no reason', ['hold', '10.0.1.7'], /hold needs a reason; add --why/],
  ['an empty reason', ['hold', '10.0.1.7', '--why', ' \t'], /--why .* at most 255 characters/],
  ['a long reason', ['hold', '10.0.1.7', '--why', 'x'.repeat(256)], /at most 255 characters/],
  ['no address', ['unhold', '10.0.1'], /"10\.0\.1" is not an IPv4 address/],
  ['a range from the end', ['unhold', '10.0.1.9-10.0.1.7'], /is not a range of addresses/],
  ['a block with host bits', ['unhold', '10.0.1.9/30'], /host bits/],
  ['an address of no subnet', ['unhold', '10.0.2.7'], /no subnet of the ledger has 10\.0\.2\.7; see/],
  ['a range that leaves the subnet', ['unhold', '10.0.1.250-10.0.2.1'], /no subnet of the ledger has/],
];
for (const [why, argv, says] of WRONG)
  holds(`${why}: is wrong usage`, async ({ run }) => {
    const { status, err } = await run(...argv);
    assert.match(err, says);
    assert.is(status, 2);
  });

holds('two subnets with one CIDR: the command says which', async ({ run, store }) => {
  const other = 'subnet-0b2' as SubnetId;
  await store.saveSubnet({ id: other, vpc: 'vpc-02', cidr: parseCidr('10.0.1.0/24') });
  await store.add([{ ...newRow(7), subnet: other }]);
  assert.match((await run('hold', '10.0.1.7', '--why', 'mine')).err, /both have 10\.0\.1\.7; add --subnet/);
  assert.is((await run('hold', '10.0.1.7', '--why', 'mine', '--subnet', other)).status, 0);
  assert.is((await store.get(other, [ip(7)])).rows[0]?.status, 'reserved');
  assert.is((await store.get(SUBNET, [ip(7)])).rows[0]?.status, 'free');
});

holds('more than 4096 addresses: are too many', async ({ run, store }) => {
  await store.saveSubnet({ id: 'subnet-0b2' as SubnetId, vpc: 'vpc-01', cidr: parseCidr('10.1.0.0/16') });
  const { status, err } = await run('hold', '10.1.0.0/20', '10.1.16.0', '--why', 'mine');
  assert.match(err, /these are 4097 addresses; at most 4096/);
  assert.is(status, 2);
});

holds.run();
