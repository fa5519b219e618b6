// Goal: an address that its container may never have been told of is listed, and no other. Method: held rows, and
// servers that lived or died.
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import { DEAD_AFTER_MS, suspects, UNANSWERED_MAX_MS, type Witness } from '../../src/domain/suspects.ts';
import { assert, suite } from '../kit/uvu.ts';

const NOW = 1_000_000;
const held = (last: number, more: Partial<Allocation> = {}): Allocation => ({
  subnet: 'subnet-01' as SubnetId,
  ip: `10.0.1.${last}` as Ipv4,
  status: 'allocated',
  iface: 'eni-0a' as EniId,
  generation: 3,
  primary: false,
  movedAt: 500_000,
  restedSince: null,
  restedFrom: null,
  leftIface: null,
  leftAt: null,
  leftUnsure: false,
  placedAt: null,
  missingSince: null,
  absentSince: null,
  refusedAt: null,
  holder: null,
  token: 'srv1-0001',
  ...more,
});
const server = (id: string, seenAt: number, stoppedAt: number | null = null): Witness => ({
  id,
  seenAt,
  stoppedAt,
});
const DEAD = NOW - DEAD_AFTER_MS - 1;

type Case = [what: string, rows: Allocation[], servers: Witness[], listed: string[]];
const cases: Case[] = [
  [
    'given at the moment when its server was last seen',
    [held(6, { movedAt: DEAD })],
    [server('srv1', DEAD)],
    ['10.0.1.6'],
  ],
  [
    'given after its server was last seen',
    [held(6, { movedAt: DEAD + 4_000 })],
    [server('srv1', DEAD)],
    ['10.0.1.6'],
  ],
  [
    'claimed 25 s before the dead server was last seen: its answer may wait for as long',
    [held(6, { movedAt: DEAD - 25_000 })],
    [server('srv1', DEAD)],
    ['10.0.1.6'],
  ],

  [
    'given before its server was last seen, and perhaps not answered',
    [held(6, { movedAt: DEAD - UNANSWERED_MAX_MS })],
    [server('srv1', DEAD)],
    ['10.0.1.6'],
  ],
  [
    'given so long before its server was last seen that it was answered',
    [held(6, { movedAt: DEAD - UNANSWERED_MAX_MS - 1 })],
    [server('srv1', DEAD)],
    [],
  ],
  [
    'given by a server that was seen lately enough',
    [held(6, { movedAt: NOW })],
    [server('srv1', NOW - DEAD_AFTER_MS)],
    [],
  ],
  [
    'given by a server that ended in good order',
    [held(6, { movedAt: DEAD })],
    [server('srv1', DEAD, DEAD)],
    [],
  ],
  [
    'given by another server than the dead one',
    [held(6, { movedAt: NOW, token: 'srv2-0001' })],
    [server('srv1', DEAD)],
    [],
  ],
  ['given by nobody knows whom', [held(6, { movedAt: NOW, token: null })], [server('srv1', DEAD)], []],
  [
    'held by one name twice on one ENI: the older',
    [held(6, { holder: 'web', movedAt: 2 }), held(7, { holder: 'web', movedAt: 1 })],
    [],
    ['10.0.1.7'],
  ],
  [
    'held by one name three times: all but the newest',
    [
      held(6, { holder: 'web', movedAt: 1 }),
      held(7, { holder: 'web', movedAt: 3 }),
      held(8, { holder: 'web', movedAt: 2 }),
    ],
    [],
    ['10.0.1.6', '10.0.1.8'],
  ],
  [
    'held by one name on two ENIs: two networks',
    [held(6, { holder: 'web' }), held(7, { holder: 'web', iface: 'eni-0b' as EniId })],
    [],
    [],
  ],
  ['held by two names', [held(6, { holder: 'web' }), held(7, { holder: 'db' })], [], []],
  ['held by containers that the engine did not name', [held(6), held(7)], [], []],
];

const suspecting = suite('suspects');
for (const [what, rows, servers, listed] of cases)
  suspecting(`${what}: ${listed.join(', ') || 'none'}`, () =>
    assert.equal(
      suspects(rows, servers, NOW)
        .map(({ row }) => row.ip)
        .sort(),
      listed,
    ),
  );
suspecting('it is said why', () => {
  const why = (rows: Allocation[], servers: Witness[]) => suspects(rows, servers, NOW)[0]?.why;
  assert.is(
    why([held(6, { movedAt: NOW })], [server('srv1', DEAD)]),
    'server srv1 died around the time it gave this address',
  );
  assert.is(
    why([held(6, { holder: 'web', movedAt: 1 }), held(7, { holder: 'web', movedAt: 2 })], []),
    'web was given 10.0.1.7 on eni-0a later',
  );
});

suspecting.run();
