// Goal: whoever hangs up before the answer holds nothing, however many do so at once. Method: the bundle, clients whose
// claims are held up by a lock on the ledger while most of them leave; then the ledger names those who stayed.
import { sqliteLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { askUnread } from '../kit/servers/checker.ts';
import { eniName, heldOf, type Site, siteSuite } from '../kit/servers/site.ts';
import { assert } from '../kit/uvu.ts';
import { pause, until } from '../kit/wait.ts';

const ENIS = range(16).map(eniName);
const ROUNDS = byLength({ full: 4, short: 1, leftOut: '3 of 4 rounds of clients that hang up' });
/** On each ENI, in each round. */
const LEAVE = 16;
const STAY = 2;
const HANG_UPS = ROUNDS * LEAVE * ENIS.length;
/** For requests to come to their claims, and for the server to see who has left. */
const ARRIVE_MS = 300;
const UNDONE_MAX_MS = 15_000;

const hangUps = siteSuite('many clients hang up at once', () => sqliteLedger(), ENIS);

const starts = ({ url, checker }: Site, each: number) =>
  Promise.all(ENIS.flatMap(eni => range(each).map(() => checker.start(url, eni))));

hangUps(`${HANG_UPS} hang-ups on ${ENIS.length} ENIs: leave nothing held`, async ({ site, ledger }) => {
  const { checker } = site;
  const first = await starts(site, LEAVE + STAY);
  assert.ok(first.every(ip => ip !== null));
  await Promise.all(first.map(ip => checker.stop(site.url, ip ?? '')));
  for (let round = 0; round < ROUNDS; round++) {
    const letGo = ledger.lock();
    const leaving = ENIS.flatMap(eni => range(LEAVE).map(() => askUnread(site.url, eni)));
    const staying = starts(site, STAY);
    await pause(ARRIVE_MS);
    for (const socket of leaving) socket.destroy();
    await pause(ARRIVE_MS);
    await letGo();
    const stayed = await staying;
    assert.ok(stayed.every(ip => ip !== null));
    const held = async () => heldOf(await ledger.rows()).map(({ ip }) => ip);
    await until('the claims are undone', async () => (await held()).length <= stayed.length, UNDONE_MAX_MS);
    assert.equal((await held()).sort(), stayed.sort());
    await Promise.all(stayed.map(ip => checker.stop(site.url, ip ?? '')));
  }
  const undone = site.server?.output().match(/claim rolled back/g) ?? [];
  assert.ok(undone.length > ENIS.length, 'claims were made whose clients had left');
  console.log(`  ${HANG_UPS} hang-ups, ${undone.length} claims undone`);
  assert.equal(await site.restAndCompare(ENIS, new Set()), []);
});
hangUps.run();
