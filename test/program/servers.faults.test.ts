// Goal: which server answers, and whether it lives to see it, is nothing that a container has to know. Method: two
// servers on one MariaDB, clients that choose between them at random, one of the two killed with -9 every few
// seconds; at rest clients, ledger and EC2 agree.

import { mariaLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { eniName, heldOf, SUBNET, siteSuite } from '../kit/servers/site.ts';
import { assert } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

const CLIENTS = 8;
const ENIS = [0, 1, 2, 3].map(eniName);
const KILLS = byLength({ full: 8, short: 3, leftOut: '5 of 8 kills of one of two servers' });
const BETWEEN_KILLS_MS = 1500;

const servers = siteSuite('two servers on one MariaDB', mariaLedger, ENIS);

servers('one killed with -9 every few seconds: nothing is given twice or lost unseen', async context => {
  const { site: first, ledger } = context;
  const { checker } = first;
  const sites = [first, await first.beside()];
  await sites[1]?.start();
  const killing = (async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      const site = sites[kill % 2] ?? first;
      await pause(BETWEEN_KILLS_MS);
      await site.kill9();
      await pause(Math.random() * BETWEEN_KILLS_MS);
      await site.start();
    }
  })();
  const urls = sites.map(site => site.url);
  await checker.load(CLIENTS, urls, ENIS, killing);
  await killing;
  const unconfirmed = checker.lostStops.size;
  await checker.repeatStops(first.url);
  assert.equal(await first.restAndCompare(ENIS, null), []);
  const adrift = checker.adrift(heldOf(await ledger.rows()));
  assert.ok(adrift.length <= checker.lostStarts.size);
  assert.equal(await first.restAndCompare(ENIS, await first.suspects(adrift)), []);
  for (const ip of adrift) await first.run('release', SUBNET, ip, '--yes');
  assert.equal(checker.adrift(heldOf(await ledger.rows())), []);
  console.log(
    `  two servers: ${KILLS} kills, ${checker.figures}, ${unconfirmed} stops to be repeated, ` +
      `${adrift.length} held by nobody and listed`,
  );
});
servers.run();
