// Goal: a process killed with -9 between an intent and its confirmation leaves nothing that is given twice, lost or
// open. Method: at each point the bundle is found to have left what that point leaves, is killed, and started again
// while clients ask; at rest clients, ledger and EC2 agree.

import { type MariaLedger, mariaLedger, type SqliteLedger, sqliteLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { eniName, heldOf, type OnSite, type Site, SUBNET, siteSuite } from '../kit/servers/site.ts';
import { assert } from '../kit/uvu.ts';
import { pause, until } from '../kit/wait.ts';
import { bringTo, type Hold, OPERATIONS } from './crash.ts';

const LOAD_MS = 800;
const CLIENTS = 5;
/** Of the server's log, with a point that was not reached. */
const LINES_SHOWN = 12;
/** EC2 may have to be asked again before: the load before has used up its calls. */
const LEFT_MAX_MS = 20_000;
const LOAD_ENIS = [eniName(0), eniName(1)];
/** EC2 applies a late call after a moment that is real time: where the machine stalls for so long, the point is tried
 *  again on another ENI. */
const TRIES_MAX = 6;

/** What the dead process leaves: the status of the row on the ENI, and whether EC2 has the address there. */
type Left = readonly [status: string | null, onEni: boolean];
type Point = readonly [
  operation: keyof typeof OPERATIONS,
  title: string,
  hold: Hold,
  left: Left,
  only?: 'mariadb' | 'sqlite',
];
const NOTHING: Left = [null, false];

const POINTS: readonly Point[] = [
  // First, so that its suspects are old enough to be listed at the end.
  ['start', 'claim committed, answer not written', { after: 'allocated' }, ['allocated', true], 'mariadb'],
  ['start unread', 'claim committed, answer not read', { unread: true }, ['allocated', true], 'sqlite'],
  ['start', 'intent not committed', { before: 'assigning' }, NOTHING],
  ['start', 'intent committed after its writer died', { late: 'assigning' }, ['assigning', false], 'mariadb'],
  ['start', 'intent committed, call not applied', { ec2: 'hang' }, ['assigning', false]],
  ['start', 'call applied after its caller died', { ec2: 'applyLate' }, ['assigning', false]],
  ['start', 'call applied, reply lost', { ec2: 'latency' }, ['assigning', true]],
  ['start', 'call answered, settlement not committed', { before: 'ready' }, ['assigning', true]],
  // In a file the one follows the other too soon for anybody to come between.
  ['start', 'settlement committed, claim not', { before: 'allocated' }, ['ready', true], 'mariadb'],
  ['stop', 'release not committed', { before: 'ready' }, ['allocated', true]],
  ['stop', 'release committed, answer not written', { after: 'ready' }, ['ready', true], 'mariadb'],
  ['recycle', 'intent not committed', { before: 'unassigning' }, ['ready', true]],
  ['recycle', 'intent committed, call not applied', { ec2: 'hang' }, ['unassigning', true]],
  ['recycle', 'call applied after its caller died', { ec2: 'applyLate' }, ['unassigning', true]],
  ['recycle', 'call applied, reply lost', { ec2: 'latency' }, ['unassigning', false]],
  ['recycle', 'call answered, settlement not committed', { before: 'free' }, ['unassigning', false]],
  ['recycle', 'settlement committed, command not ended', { after: 'free' }, NOTHING, 'mariadb'],
  // A held file would keep the server from starting at all.
  ['take over', 'not committed', { before: 'unassigning' }, ['assigning', false], 'mariadb'],
  ['take over', 'committed, call not applied', { ec2: 'hang' }, ['unassigning', false]],
  ['take over', 'call answered, settlement not committed', { before: 'free' }, ['unassigning', false]],
];

type AnyLedger = MariaLedger | SqliteLedger;
const holdOf = (hold: Hold): string => ('ec2' in hold ? hold.ec2 : (Object.keys(hold)[0] ?? ''));

/** Those whose operation or kind of hold no earlier one has. */
const KINDS = POINTS.filter(([operation, , hold], index) => {
  const earlier = POINTS.slice(0, index);
  return (
    earlier.every(([other]) => other !== operation) ||
    earlier.every(([, , other]) => holdOf(other) !== holdOf(hold))
  );
});

for (const [i, store] of (['mariadb', 'sqlite'] as const).entries()) {
  const isOn = ([, , , , only]: Point) => only === undefined || only === store;
  const all = POINTS.filter(isOn);
  // What both stores can be held at is tried on one of them, in turns.
  const chosen = KINDS.filter((point, k) => isOn(point) && (point[4] === store || k % 2 === i));
  const points = byLength({
    full: all,
    short: chosen,
    leftOut: `${all.length - chosen.length} of ${all.length} points at which a process on ${store} is killed`,
  });
  const crash = siteSuite<AnyLedger>(
    `killed with -9, ledger in ${store}`,
    store === 'mariadb' ? mariaLedger : () => sqliteLedger(),
    LOAD_ENIS,
    { spare: points.length * TRIES_MAX },
  );
  const enis = [...LOAD_ENIS];
  let kills = 0;

  /** What was found last, for who has to find out why a point was not reached. */
  let found = '';
  const isLeft = async (site: Site, eni: string, [status, onEni]: Left): Promise<boolean> => {
    const rows = await site.rowsOn(eni);
    const there = await site.ec2.secondaries(eni);
    found = `${rows.map(row => row.status).join(', ')}; ${there.length} on the ENI`;
    // A start may be sent on with a second call.
    const isIn =
      status === null ? rows.length === 0 : rows.length > 0 && rows.every(row => row.status === status);
    return isIn && there.length === (onEni ? Math.max(rows.length, 1) : 0);
  };

  const nextEni = (): string => {
    const eni = eniName(enis.length);
    enis.push(eni);
    return eni;
  };

  /** Kills the process at the point; returns the ENI that it was at. */
  async function killAt(
    { site, ledger }: OnSite<AnyLedger>,
    [operation, , hold, left]: Point,
  ): Promise<string> {
    for (let tries = 1; ; tries++) {
      if (site.server === null) await site.start();
      const eni = nextEni();
      await site.makeNetworks([eni]);
      await OPERATIONS[operation].prepare(site, eni);
      const kill = await bringTo(hold, OPERATIONS[operation], eni, site, ledger);
      const untilLeft = () => until(`it has left ${left}`, () => isLeft(site, eni, left), LEFT_MAX_MS);
      const lines = () => site.server?.output().trim().split('\n').slice(-LINES_SHOWN).join('\n');
      try {
        if (!('late' in hold)) await untilLeft();
      } catch (error) {
        if (!('ec2' in hold && hold.ec2 === 'applyLate') || tries === TRIES_MAX)
          throw new Error(`${(error as Error).message}; last: ${found}\n${lines()}`);
        continue;
      } finally {
        await kill();
        kills++;
      }
      if ('late' in hold) await untilLeft();
      return eni;
    }
  }

  for (const point of points) {
    const [operation, title] = point;
    crash(`${OPERATIONS[operation].subject}: ${title}`, async context => {
      const { site } = context;
      const { checker } = site;
      const eni = await killAt(context, point);
      const started = site.server === null ? site.start() : Promise.resolve();
      const over = started.then(() => pause(LOAD_MS));
      await checker.load(CLIENTS, [site.url], [...LOAD_ENIS, eni], over);
      await over;
      await checker.repeatStops(site.url);
      assert.equal(await site.restAndCompare(enis, null), []);
    });
  }

  crash('at the end: everything that nobody holds is ready, free or a listed suspect', async ({ site }) => {
    const { checker } = site;
    const adrift = checker.adrift(heldOf(await site.ledger.rows()));
    assert.equal(await site.restAndCompare(enis, await site.suspects(adrift)), []);
    for (const ip of adrift) await site.run('release', SUBNET, ip, '--yes');
    for (const ip of [...checker.live.keys()]) assert.ok(await checker.stop(site.url, ip));
    const unfinished = (await site.ledger.rows()).filter(row => !['ready', 'occupied'].includes(row.status));
    assert.equal(unfinished, []);
    assert.equal(JSON.parse(await site.run('reconcile', '--dry-run', '--json')).drift, []);
    console.log(`  ${store}: ${kills} kills, ${checker.figures}, ${adrift.length} held by nobody and listed`);
  });
  crash.run();
}
