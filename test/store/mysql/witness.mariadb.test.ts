// Goal: of readings of one host that several servers have under way at once, only that of the last begin is saved, whole,
// and the next one sees it. Method: several stores on one database that begin and save at the same moment.
import { randomUUID } from 'node:crypto';
import type { InstanceId } from '../../../src/domain/ids.ts';
import type { LedgerWitness } from '../../../src/domain/sighting.ts';
import type { Store } from '../../../src/store/store.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { byLength } from '../../kit/length.ts';
import { ENI, range } from '../../kit/rows.ts';
import { sightingWith } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';

const HOST = 'i-0a' as InstanceId;
const ROUNDS = byLength({ full: 100, short: 15, leftOut: 'races of servers that save readings of one host' });
/** More than one statement takes. */
const LASTS = range(300);

const mariadb = await sharedMariadb();
const readings = suite('readings of hosts: MariaDB');
readings.after(() => mariadb.stop());

async function opened(count: number): Promise<Store[]> {
  const database = await mariadb.migrated();
  return range(count).map(() => mariadb.store(database));
}
const marked = ({ ticket }: LedgerWitness) => LASTS.map(last => sightingWith(last, { name: ticket }));
const marks = async (store: Store) => new Set((await store.sightings([ENI])).rows.map(one => one.name));

readings('four servers at once: one of them saves, and nothing is mixed', async () => {
  const stores = await opened(4);
  for (let i = 0; i < ROUNDS; i++) {
    const begun = await Promise.all(stores.map(store => store.beginReading(HOST, randomUUID())));
    const saved = await Promise.all(
      stores.map(async (store, n) => {
        const witness = begun[n] as LedgerWitness;
        return (await store.saveReading(witness, marked(witness), [])) ? witness.ticket : [];
      }),
    );
    const [[last]] = [(await (stores[0] as Store).witnesses()).rows];
    assert.equal(saved.flat(), [last?.ticket]);
    assert.equal(await marks(stores[0] as Store), new Set([last?.ticket]));
  }
  for (const store of stores) await store.close();
});

readings('a reading that is saved while another is begun: is seen by that one, or is not saved', async () => {
  const [first, second] = (await opened(2)) as [Store, Store];
  let saves = 0;
  for (let i = 0; i < ROUNDS; i++) {
    const witness = await first.beginReading(HOST, randomUUID());
    const [isSaved, seen] = await Promise.all([
      first.saveReading(witness, marked(witness), []),
      second.beginReading(HOST, randomUUID()).then(() => marks(second)),
    ]);
    const isThere = (await marks(second)).has(witness.ticket);
    assert.is(seen.has(witness.ticket), isThere, 'the next one has missed it');
    assert.ok(isThere || !isSaved);
    if (isThere) saves++;
  }
  console.log(`  ${saves} of ${ROUNDS} were saved`);
  for (const store of [first, second]) await store.close();
});

readings('holdings that several servers end at once: are all counted', async () => {
  const stores = await opened(4);
  for (let i = 0; i < ROUNDS; i++) await Promise.all(stores.map(store => store.addToFact('ended', 2)));
  assert.is(await stores[0]?.fact('ended'), String(2 * stores.length * ROUNDS));
  for (const store of stores) await store.close();
});
readings.run();
