// Goal: a database that dies or stands still gives nothing twice, loses nothing and needs nobody's hand. Method:
// MariaDB killed with -9, and stopped for 20 s, under clients that know who holds what; one server waits for it,
// the other gives up early; at rest clients, ledger and EC2 agree, with no address held by nobody.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { type MariaLedger, mariaLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { Checker } from '../kit/servers/checker.ts';
import { eniName, Site } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

const CLIENTS = 8;
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

const outage = suite('MariaDB goes away under load');
const checker = new Checker();
let ledger: MariaLedger;
let patient: Site;
let hasty: Site;

outage.before(async () => {
  ledger = await mariaLedger();
  patient = await Site.open(ledger, ENIS.length, checker, { EC2_IPAM_REQUEST_TIMEOUT: `${PATIENT_S}s` });
  hasty = await patient.beside({ EC2_IPAM_REQUEST_TIMEOUT: `${HASTY_S}s` });
  await Promise.all([patient.start(), hasty.start()]);
  await patient.makeNetworks(ENIS);
});
outage.after(async () => {
  await hasty?.close();
  await patient?.close();
  await ledger?.close();
});

/** The clients work through all of `happening` and for a moment after it; then nothing is wrong. */
async function loadWhile(happening: () => Promise<void>): Promise<void> {
  const over = pause(1000)
    .then(happening)
    .then(() => pause(1000));
  await checker.load(CLIENTS, [patient.url, hasty.url], ENIS, over);
  await over;
  await checker.repeatStops(patient.url);
  await pause(2000); // two rounds of the keepers, which give back what was claimed unheard
  assert.equal(await patient.restAndCompare(ENIS, new Set()), []);
}

outage(`killed with -9 ${KILLS} times and started again: nothing is given twice or lost`, async () => {
  await loadWhile(async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      await ledger.database.kill9();
      await pause(DOWN_MS);
      await ledger.database.start();
      await pause(BETWEEN_KILLS_MS);
    }
  });
  console.log(`  MariaDB: ${KILLS} kills, ${checker.figures}`);
});

outage(`frozen for ${FROZEN_MS / 1000} s: who waits is served and who does not is told why`, async () => {
  const [row] = await ledger.database.run('ipam', 'SELECT @@pid_file AS file');
  const pid = Number(readFileSync(String(row?.file), 'utf8'));
  await loadWhile(async () => {
    process.kill(pid, 'SIGSTOP');
    await pause(FROZEN_MS);
    process.kill(pid, 'SIGCONT');
  });
  console.log(`  MariaDB: frozen ${FROZEN_MS / 1000} s, ${checker.figures}`);
  const [waited, gaveUp] = [patient, hasty].map(site => checker.longestMs(site.url) / 1000);
  assert.ok((waited ?? 0) > FROZEN_MS / 2000 && (waited ?? 0) < PATIENT_S, `the patient waited ${waited} s`);
  assert.ok((gaveUp ?? 0) < HASTY_S + LAST_TRY_S, `the hasty waited ${gaveUp} s`);
  assert.ok(
    [...checker.refusals.keys()].some(text => /^the store at .* cannot be used: .*; look/.test(text)),
  );
});

outage('the servers: have needed nobody, the same two processes answer', async () => {
  for (const site of [patient, hasty]) assert.ok(await checker.start(site.url, eniName(0)));
});
outage.run();
