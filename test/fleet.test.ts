// Goal: a server believes that it is alone only when that is sure. Method: what the ledger notes, read by read.
import { fleetOf } from '../src/ipam/fleet.ts';
import type { LedgerServer } from '../src/store/store.ts';
import { assert, suite } from './uvu.ts';

const NOW = 10_000_000;
const server = (id: string, more: Partial<LedgerServer> = {}): LedgerServer => ({
  id,
  startedAt: 0,
  seenAt: NOW,
  stoppedAt: null,
  askedAt: null,
  ...more,
});
const ME = server('me');
const scene = () => {
  const clock = { now: 0 };
  const fleet = fleetOf('me', () => clock.now);
  const noted = (...rows: LedgerServer[]) => fleet.note({ now: NOW, rows });
  return { clock, fleet, noted };
};

const fleet = suite('fleet');
const others: [what: string, other: LedgerServer, alone: boolean][] = [
  ['one that was seen just now', server('b'), false],
  ['one that was seen 15 s ago may come back', server('b', { seenAt: NOW - 15_000 }), false],
  ['one that was seen 10 min ago is dead', server('b', { seenAt: NOW - 600_000 }), true],
  ['one that has stopped in good order', server('b', { stoppedAt: NOW }), true],
];
for (const [what, other, alone] of others)
  fleet(what, () => {
    const { fleet, noted } = scene();
    noted(ME, other);
    noted(ME, other);
    assert.is(fleet.isAlone, alone);
  });

fleet('a server that has just begun is not alone before it has looked twice', () => {
  const { fleet, noted } = scene();
  assert.is(fleet.isAlone, false);
  noted(ME);
  assert.is(fleet.isAlone, false);
  noted(ME);
  assert.is(fleet.isAlone, true);
  noted(ME, server('b'));
  assert.is(fleet.isAlone, false);
  noted(ME);
  assert.is(fleet.isAlone, false);
});

fleet('one that cannot read who is noted does not know it', () => {
  const { clock, fleet, noted } = scene();
  noted(ME);
  noted(ME);
  clock.now += 14_999;
  assert.is(fleet.isAlone, true);
  clock.now += 1;
  assert.is(fleet.isAlone, false);
});
fleet.run();
