// Goal: a question of the history is answered right after 10,000 moves, and among them. Method: two stores on one MariaDB,
// which move the same rows at the same time; what they noted themselves.
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { byLength } from '../../kit/length.ts';
import { suite } from '../../kit/uvu.ts';
import { twoWriters } from '../two-writers.ts';

const MOVES = byLength({
  full: 10_000,
  short: 2_000,
  leftOut: '8,000 of 10,000 moves in the history of MariaDB',
});

const mariadb = await sharedMariadb();
const history = suite('history: MariaDB');
history.after(() => mariadb.stop());
history(`${MOVES} moves by two servers: every holding is told, as both noted it`, async () => {
  const database = await mariadb.migrated();
  const stores = [
    mariadb.store(database, { origin: 'server-1' }),
    mariadb.store(database, { origin: 'server-2' }),
  ] as const;
  await twoWriters(stores, MOVES);
  for (const store of stores) await store.close();
});
history.run();
