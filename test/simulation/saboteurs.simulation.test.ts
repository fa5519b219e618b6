// Goal: the simulation finds what is wrong. Method: one small wrong change to the real code at a time, in a copy,
// which must make a history break a rule within a bounded number of seeds.
import { availableParallelism } from 'node:os';
import { assert, suite } from '../kit/uvu.ts';
import { type Found, hunt, sabotaged } from './sabotage.ts';
import { SABOTEURS, type Saboteur } from './saboteurs.ts';
import { simulate } from './simulate.ts';

const SEEDS_MAX = 8_000;
const TRIES_MAX = 5;

const saboteurs = suite('saboteurs');
const waiting = [...SABOTEURS];
const hunts = new Map<Saboteur, Promise<Found | null>>();
let running = 0;

/** As many at a time as there are processors, in the order of the list. */
function start(): void {
  while (running < availableParallelism() && waiting.length > 0) {
    const saboteur = waiting.shift();
    if (saboteur === undefined) return;
    running++;
    const hunted = huntDown(saboteur).finally(() => {
      running--;
      start();
    });
    hunted.catch(() => {});
    hunts.set(saboteur, hunted);
  }
}

/** A history that breaks a rule without the saboteur too shows nothing of it. */
async function huntDown(saboteur: Saboteur): Promise<Found | null> {
  let from = 1;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const found = await hunt(saboteur, SEEDS_MAX, from);
    if (found === null) return null;
    const { violation } = await simulate(found.seed, null, false, saboteur.focus);
    if (violation === null) return found;
    console.log(`  seed ${found.seed} breaks a rule without "${saboteur.name}" too: ${violation.rule}`);
    from = found.seed + 1;
  }
  return null;
}

async function outcomeOf(saboteur: Saboteur): Promise<Found | null> {
  for (;;) {
    const hunted = hunts.get(saboteur);
    if (hunted !== undefined) return await hunted;
    await Promise.race(hunts.values());
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

saboteurs.before(start);
for (const saboteur of SABOTEURS)
  saboteurs(`${saboteur.name}: found within ${SEEDS_MAX} histories`, async () => {
    const found = await outcomeOf(saboteur);
    assert.ok(found !== null, 'it survived: a rule is missing');
    assert.is.not(found?.rule, 'crash', found?.detail);
    console.log(`  ${saboteur.name}: seed ${found?.seed}: ${found?.rule}`);
  });

saboteurs('there are at least twenty, and none is a double', () => {
  assert.ok(SABOTEURS.length >= 20);
  assert.is(new Set(SABOTEURS.map(one => one.name)).size, SABOTEURS.length);
});

saboteurs('one whose text has changed is stale', () => {
  const saboteur = { name: 'x', file: 'y', find: 'a', replace: '$&b' };
  assert.is(sabotaged('cac', saboteur), 'c$&bc');
  assert.throws(() => sabotaged('ccc', saboteur), /stale/);
  assert.throws(() => sabotaged('caac', saboteur), /2 times/);
});

saboteurs.run();
