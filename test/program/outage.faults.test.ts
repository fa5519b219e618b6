// Goal: a database that dies or stands still gives nothing twice, loses nothing and needs nobody's hand. Method:
// MariaDB killed with -9, and stopped for 20 s, under clients that know who holds what; one server waits for it,
// the other gives up early; at rest clients, ledger and EC2 agree, with no address held by nobody.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { mariaLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { eniName, type Site, siteSuite } from '../kit/servers/site.ts';
import { assert } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

const ENIS = [0, 1, 2, 3].map(eniName);
/** Longer than the hasty server's bound and its last try, so that it refuses. */
const FROZEN_MS = 20_000;
const PATIENT_S = 60;
const HASTY_S = 8;
/** The last try of a request may begin just before its bound, and takes a call of the store and its settling. */
const LAST_TRY_S = 20;
const KILLS = byLength({ full: 3, short: 1, leftOut: '2 of 3 kills of MariaDB' });
const BETWEEN_KILLS_MS = 2500;
const DOWN_MS = 1500;
const CLIENTS = 8;
const AROUND_MS = 1000;

const more = { EC2_IPAM_REQUEST_TIMEOUT: `${PATIENT_S}s` };
const outage = siteSuite('MariaDB goes away under load', mariaLedger, ENIS, { more });
let hasty: Site;
outage.before(async ({ site }) => {
  hasty = await site.beside({ EC2_IPAM_REQUEST_TIMEOUT: `${HASTY_S}s` });
  await hasty.start();
});

outage(`killed with -9 ${KILLS} times and started again: nothing is given twice or lost`, async context => {
  const { site, ledger } = context;
  await site.loadWhile(CLIENTS, ENIS, AROUND_MS, async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      await ledger.database.kill9();
      await pause(DOWN_MS);
      await ledger.database.start();
      await pause(BETWEEN_KILLS_MS);
    }
  });
  console.log(`  MariaDB: ${KILLS} kills, ${site.checker.figures}`);
});

outage(`frozen for ${FROZEN_MS / 1000} s: who waits is served, who does not is told why`, async context => {
  const { site: patient, ledger } = context;
  const { checker } = patient;
  const [row] = await ledger.database.run('ipam', 'SELECT @@pid_file AS file');
  const pid = Number(readFileSync(String(row?.file), 'utf8'));
  await patient.loadWhile(CLIENTS, ENIS, AROUND_MS, async () => {
    process.kill(pid, 'SIGSTOP');
    // The clients choose a server each time, perhaps all the same one.
    const asked = [patient, hasty].map(site => checker.start(site.url, eniName(0)));
    await pause(FROZEN_MS);
    process.kill(pid, 'SIGCONT');
    await Promise.all(asked);
  });
  console.log(`  MariaDB: frozen ${FROZEN_MS / 1000} s, ${checker.figures}`);
  const [waited, gaveUp] = [patient, hasty].map(site => checker.longestMs(site.url) / 1000);
  assert.ok((waited ?? 0) > FROZEN_MS / 2000 && (waited ?? 0) < PATIENT_S, `the patient waited ${waited} s`);
  assert.ok((gaveUp ?? 0) < HASTY_S + LAST_TRY_S, `the hasty waited ${gaveUp} s`);
  const isTold = (text: string) => /^the store at .* cannot be used: .*; check/.test(text);
  assert.ok([...checker.refusals.keys()].some(isTold));
});

outage('the servers: have needed nobody, the same two processes answer', async ({ site }) => {
  for (const one of [site, hasty]) assert.ok(await one.checker.start(one.url, eniName(0)));
});
outage.run();
