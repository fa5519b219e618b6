// Goal: on MariaDB the views say what the memory store says, for a /16 too, and what another server moves is told. Method:
// two stores on one database, one of which is only read; no time is measured.
import { fromNumber, parseCidr } from '../../src/domain/address.ts';
import { createLive } from '../../src/views/live/live.ts';
import { pollFor } from '../../src/views/live/poll.ts';
import { createRecent } from '../../src/views/live/recent.ts';
import { createViews } from '../../src/views/views.ts';
import { sharedMariadb } from '../kit/databases/mariadb.ts';
import { eniWith, make, makeReady } from '../kit/ledger.ts';
import { ENI, range, SUBNET } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

const LARGE = parseCidr('10.0.0.0/16');
const REST = { cooldownMs: 30_000, quarantineMs: 600_000 };

const mariadb = await sharedMariadb();
const test = suite('views: MariaDB');
test.after(() => mariadb.stop());

test('a /16: its bars count what is there, and a move of another server is told', async () => {
  const database = await mariadb.migrated();
  const [store, other] = [mariadb.store(database), mariadb.store(database)];
  await store.saveSubnet({ id: SUBNET, vpc: 'vpc-0a', cidr: LARGE });
  await store.saveEnis([eniWith()]);
  await store.adopt(ENI);
  const row = { subnet: SUBNET, status: 'free', iface: null, primary: false } as const;
  await store.add(range(65_536).map(i => ({ ...row, ip: fromNumber(LARGE.first + i) })));
  await makeReady(other, 6);
  await make(other, 7, 'hold', { reservedFor: 'dns' });
  const clock = () => performance.now();
  const live = createLive(REST, clock);
  const views = createViews({
    ...{ store, clock, recent: createRecent(clock), lastEvent: live.lastEvent },
    policy: { ...REST, callDeadlineMs: 20_000, graceMs: 930_000, warmMin: 2, warmMax: 6 },
    server: { id: 'server-1', version: '1.2.3', runtime: 'node 24' },
  });
  const map = await views.subnet(SUBNET, null);
  assert.is(map?.bars.length, 256);
  assert.equal(
    map?.bars
      .slice(0, 2)
      .map(({ cidr, counts, reservedByOperators }) => [cidr, counts.free, counts.ready, reservedByOperators]),
    [
      ['10.0.0.0/24', 256, 0, 0],
      ['10.0.1.0/24', 254, 1, 1],
    ],
  );
  const { subnets, reserved, problems } = await views.overview();
  assert.equal([subnets[0]?.counts.free, subnets[0]?.counts.reserved, problems], [65_534, 1, []]);
  assert.equal(
    reserved.map(({ addresses, why }) => [addresses, why]),
    [['10.0.1.7', 'dns']],
  );
  const block = await views.subnet(SUBNET, '10.0.1.0/24');
  assert.equal([block?.cells.length, block?.cells[6]?.status, block?.enis.length], [256, 'ready', 1]);

  const end = pollFor({ store, live, clock, wait: pause, log: () => {} });
  const reader = live.open({ after: map?.lastEvent ?? '', subnet: null, drop: () => {} });
  await reader?.next();
  await make(other, 6, 'claim', { holder: 'web' });
  const heard = new Set<string>();
  while (!heard.has('10.0.1.6 allocated')) {
    const [, data = '{"cells":[]}'] = /^data: (.*)$/m.exec((await reader?.next()) ?? '') ?? [];
    for (const cell of (JSON.parse(data) as { cells: { address: string; status: string }[] }).cells) {
      assert.not(heard.has(`${cell.address} ${cell.status}`), 'told twice');
      heard.add(`${cell.address} ${cell.status}`);
    }
  }
  end();
  live.close();
  await store.close();
  await other.close();
});
test.run();
