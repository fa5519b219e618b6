// Goal: an address that its container may never have been told of is listed, and no other. Method: held rows, and
// servers that lived or died.
import type { Allocation } from '../../src/domain/allocation.ts';
import { DEAD_AFTER_MS, suspects, UNANSWERED_MAX_MS, type Writer } from '../../src/domain/suspects.ts';
import { ip, ipsOf, OTHER_ENI, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const NOW = 1_000_000;
/** When the server was last seen that has died. */
const DEAD_AT = NOW - DEAD_AFTER_MS - 1;
const held = (last: number, more: Partial<Allocation> = {}): Allocation =>
  rowWith({ ip: ip(last), status: 'allocated', movedAt: 500_000, token: 'srv1-0001', ...more });
const heldBy = (last: number, holder: string, movedAt = 1): Allocation => held(last, { holder, movedAt });
const seen = (seenAt: number, stoppedAt: number | null = null): Writer => ({
  id: 'srv1',
  seenAt,
  stoppedAt,
});

const suspecting = suite('suspect');
/** Of one address, given at a time by a server that was seen: whether it is listed. */
const given: [what: string, row: Partial<Allocation>, server: Writer, isListed: boolean][] = [
  ['at the moment when its server was last seen', { movedAt: DEAD_AT }, seen(DEAD_AT), true],
  ['after its server was last seen', { movedAt: DEAD_AT + 4_000 }, seen(DEAD_AT), true],
  ['25 s before: its answer may wait for as long', { movedAt: DEAD_AT - 25_000 }, seen(DEAD_AT), true],
  ['before, and perhaps not answered', { movedAt: DEAD_AT - UNANSWERED_MAX_MS }, seen(DEAD_AT), true],
  ['so long before that it was answered', { movedAt: DEAD_AT - UNANSWERED_MAX_MS - 1 }, seen(DEAD_AT), false],
  ['by a server that was seen lately enough', { movedAt: NOW }, seen(NOW - DEAD_AFTER_MS), false],
  ['by a server that ended in good order', { movedAt: DEAD_AT }, seen(DEAD_AT, DEAD_AT), false],
  ['by another server than the dead one', { movedAt: NOW, token: 'srv2-0001' }, seen(DEAD_AT), false],
  ['by nobody knows whom', { movedAt: NOW, token: null }, seen(DEAD_AT), false],
];
for (const [what, row, server, isListed] of given)
  suspecting(`given ${what}: ${isListed ? 'listed' : 'not listed'}`, () => {
    const found = suspects([held(6, row)], [server], NOW);
    assert.equal(ipsOf(found.map(one => one.row)), isListed ? [ip(6)] : []);
  });

const named: [what: string, rows: Allocation[], listed: number[]][] = [
  ['one name twice on one ENI: the older', [heldBy(6, 'web', 2), heldBy(7, 'web', 1)], [7]],
  [
    'one name three times: all but the newest',
    [heldBy(6, 'web', 1), heldBy(7, 'web', 3), heldBy(8, 'web', 2)],
    [6, 8],
  ],
  [
    'one name on two ENIs, which are two networks: none',
    [heldBy(6, 'web'), { ...heldBy(7, 'web'), iface: OTHER_ENI }],
    [],
  ],
  ['two names: none', [heldBy(6, 'web'), heldBy(7, 'db')], []],
  ['containers that the engine did not name: none', [held(6), held(7)], []],
];
for (const [what, rows, listed] of named)
  suspecting(`held by ${what}`, () => {
    const found = suspects(rows, [], NOW);
    assert.equal(ipsOf(found.map(one => one.row)).sort(), listed.map(ip));
  });

suspecting('the list: says why', () => {
  const why = (rows: Allocation[], servers: Writer[]) => suspects(rows, servers, NOW)[0]?.why;
  const died = 'server srv1 died around the time it gave this address';
  assert.is(why([held(6, { movedAt: NOW })], [seen(DEAD_AT)]), died);
  const later = 'web was given 10.0.1.7 on eni-0a later';
  assert.is(why([heldBy(6, 'web', 1), heldBy(7, 'web', 2)], []), later);
});
suspecting.run();
