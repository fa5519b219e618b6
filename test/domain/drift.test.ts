// Goal: each difference between ledger and EC2 is known for what it is, and nothing is concluded too early.
// Method: one row, one sighting, one moment.
import type { Ipv4 } from '../../src/domain/address.ts';
import { type Allocation, LATE_READS_MS, type MoveName } from '../../src/domain/allocation.ts';
import {
  ABSENT_FOR_MS,
  type DriftKind,
  describe,
  driftOf,
  LINGERS_FOR_MS,
  planFor,
  REFUSED_FOR_MS,
  type Scene,
  type Sighting,
} from '../../src/domain/drift.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import { assert, suite } from '../kit/uvu.ts';

const A = 'eni-0a' as EniId;
const B = 'eni-0b' as EniId;
const NOW = 10_000_000;
const REST = { cooldownMs: 30_000, quarantineMs: 600_000, graceMs: 930_000 };
const LONG_AGO = 0;
const ROW: Allocation = {
  subnet: 'subnet-01' as SubnetId,
  ip: '10.0.1.6' as Ipv4,
  status: 'free',
  iface: A,
  generation: 7,
  primary: false,
  movedAt: LONG_AGO,
  restedSince: null,
  restedFrom: null,
  leftIface: null,
  leftAt: null,
  leftUnsure: false,
  placedAt: null,
  missingSince: null,
  absentSince: null,
  refusedAt: null,
  holder: 'web',
  token: null,
};
const onA: Sighting = { eni: A, primary: false };
const onB: Sighting = { eni: B, primary: false };
const primaryOfA: Sighting = { eni: A, primary: true };
const WHOLE: Scene = { ours: () => true, hasLeft: () => false, isWhole: true };
const NOT_OURS: Scene = { ours: () => false, hasLeft: () => false, isWhole: true };
const OWN: Scene = { ours: () => true, hasLeft: () => false, isWhole: false };
const settled = NOW - LATE_READS_MS;
const unsettled = settled + 1;

type Case = [
  what: string,
  row: Partial<Allocation>,
  at: Sighting | null,
  kind: DriftKind | null,
  move: MoveName | null,
];
const cases: Case[] = [
  ['free and on no ENI', { status: 'free', iface: null }, null, null, null],
  ['free, but on an ENI', { status: 'free', iface: null }, onB, 'foreign', 'foreign'],
  [
    'free, and shown where an Unassign of ours may be late',
    { status: 'free', leftIface: B, leftAt: NOW - REST.graceMs + 1, leftUnsure: true },
    onB,
    null,
    null,
  ],
  [
    'free, and shown where an Unassign took it off for certain, by a read that may be late',
    { status: 'free', leftIface: B, leftAt: NOW - LATE_READS_MS + 1 },
    onB,
    null,
    null,
  ],
  [
    'free, and shown where an Unassign took it off for certain, by a read that is not that late',
    { status: 'free', leftIface: B, leftAt: NOW - LATE_READS_MS },
    onB,
    'foreign',
    'foreign',
  ],
  [
    'free, and still shown on the ENI of ours that it left, after the grace',
    { status: 'free', leftIface: B, leftAt: NOW - REST.graceMs, leftUnsure: true },
    onB,
    'lingering',
    'reclaim',
  ],
  [
    'free, and shown an hour later on the ENI of ours that it left',
    { status: 'free', leftIface: B, leftAt: NOW - LINGERS_FOR_MS, leftUnsure: true },
    onB,
    'foreign',
    'foreign',
  ],
  [
    'free, and shown on another ENI than it left',
    { status: 'free', leftIface: A, leftAt: NOW },
    onB,
    'foreign',
    'foreign',
  ],

  ['ready and there', { status: 'ready' }, onA, null, null],
  ['ready, but on another ENI', { status: 'ready', placedAt: settled }, onB, 'usurped', 'usurped'],
  ['ready, but on another ENI, too early to say', { status: 'ready', placedAt: unsettled }, onB, null, null],
  [
    'ready here, and lately the primary of an ENI that may be gone',
    { status: 'ready', placedAt: unsettled },
    { eni: B, primary: true },
    null,
    null,
  ],
  [
    'ready here, and for long the primary of another ENI',
    { status: 'ready', placedAt: settled },
    { eni: B, primary: true },
    'usurped',
    'usurped',
  ],
  ['ready, but the primary of its ENI', { status: 'ready', movedAt: NOW }, primaryOfA, 'usurped', 'usurped'],
  ['ready, but on no ENI', { status: 'ready', placedAt: settled }, null, 'astray', null],
  ['ready, but on no ENI, too early to say', { status: 'ready', placedAt: unsettled }, null, null, null],

  ['held and there', { status: 'allocated' }, onA, null, null],
  [
    'held and there, and was missing',
    { status: 'allocated', missingSince: 1, movedAt: NOW },
    onA,
    'found',
    'found',
  ],
  [
    'held, but on no ENI, claimed just now on the ENI where it has been for long',
    { status: 'allocated', movedAt: NOW, placedAt: settled },
    null,
    'missing',
    null,
  ],
  [
    'ready, but on another ENI, given up just now on the ENI where it has been for long',
    { status: 'ready', movedAt: NOW, placedAt: settled },
    onB,
    'usurped',
    'usurped',
  ],
  [
    'ready, but on no ENI, and nobody noted since when',
    { status: 'ready', movedAt: NOW },
    null,
    'astray',
    null,
  ],
  [
    'held, but on no ENI, just after a repair',
    { status: 'allocated', placedAt: unsettled, missingSince: null },
    null,
    null,
    null,
  ],
  ['held, but on no ENI', { status: 'allocated', placedAt: settled }, null, 'missing', null],
  ['held, but on no ENI, too early to say', { status: 'allocated', placedAt: unsettled }, null, null, null],
  [
    'held, and still missing',
    { status: 'allocated', placedAt: unsettled, missingSince: 1 },
    null,
    'missing',
    null,
  ],
  ['held, but on another ENI', { status: 'allocated', placedAt: settled }, onB, 'elsewhere', 'missed'],
  [
    'held, on another ENI, and marked as missing',
    { status: 'allocated', placedAt: settled, missingSince: 1 },
    onB,
    null,
    null,
  ],
  [
    'held, but on another ENI, too early to say',
    { status: 'allocated', placedAt: unsettled },
    onB,
    null,
    null,
  ],

  ['occupied and known', { status: 'occupied' }, onA, null, null],
  ['occupied, and on another ENI', { status: 'occupied' }, onB, 'seen', 'seen'],
  ['occupied, and a primary now', { status: 'occupied' }, primaryOfA, 'seen', 'seen'],
  ['occupied, and back', { status: 'occupied', absentSince: 1 }, onA, 'seen', 'seen'],
  ['occupied, known from a refusal, and seen', { status: 'occupied', refusedAt: 1 }, onA, 'seen', 'seen'],
  ['occupied, and gone', { status: 'occupied', movedAt: NOW }, null, 'unseen', 'unseen'],
  [
    'occupied, and gone for a moment',
    { status: 'occupied', absentSince: NOW - ABSENT_FOR_MS + 1 },
    null,
    null,
    null,
  ],
  [
    'occupied, and gone for long',
    { status: 'occupied', absentSince: NOW - ABSENT_FOR_MS },
    null,
    'vacated',
    'vacated',
  ],
  [
    'occupied, refused less than an hour ago',
    { status: 'occupied', absentSince: 1, refusedAt: NOW - REFUSED_FOR_MS + 1 },
    null,
    null,
    null,
  ],
  [
    'occupied, refused an hour ago',
    { status: 'occupied', absentSince: 1, refusedAt: NOW - REFUSED_FOR_MS },
    null,
    'vacated',
    'vacated',
  ],

  ['reserved, whatever is seen', { status: 'reserved' }, onB, null, null],
  ['being assigned: its call settles it', { status: 'assigning' }, onA, null, null],
  ['being taken off: its call settles it', { status: 'unassigning' }, null, null, null],
];

const drift = suite('drift');
for (const [what, difference, at, kind, move] of cases)
  drift(`${what}: ${kind ?? 'none'}`, () => {
    const row = { ...ROW, ...difference };
    const found = driftOf(row, at, WHOLE, REST, NOW);
    assert.is(found?.kind ?? null, kind);
    assert.is(found?.change?.move ?? null, move);
    if (found === null) return;
    assert.is(found.row, row);
    assert.is(found.seenOn, at?.eni ?? null);
  });

const ofOwn: Case[] = [
  ['ready, but not on its ENI', { status: 'ready' }, null, 'astray', null],
  ['held, but not on its ENI', { status: 'allocated' }, null, 'missing', null],
  ['free, but on an ENI of ours', { status: 'free', iface: null }, onA, 'foreign', 'foreign'],
  ['occupied, and on no ENI of ours', { status: 'occupied', iface: B }, null, null, null],
  ['occupied, and for long on no ENI of ours', { status: 'occupied', absentSince: 1 }, null, null, null],
  ['occupied, and on an ENI of ours', { status: 'occupied', iface: B }, onA, 'seen', 'seen'],
];
for (const [what, difference, at, kind, move] of ofOwn)
  drift(`of our own ENIs alone, ${what}: ${kind ?? 'none'}`, () => {
    const found = driftOf({ ...ROW, ...difference }, at, OWN, REST, NOW);
    assert.is(found?.kind ?? null, kind);
    assert.is(found?.change?.move ?? null, move);
  });

const LEFT: Scene = { ours: () => false, hasLeft: eni => eni === A, isWhole: true };
const ofLeft: Case[] = [
  ['ready, and shown there', { status: 'ready' }, onA, 'stranded', 'stranded'],
  ['ready, and on another ENI', { status: 'ready' }, onB, 'stranded', 'stranded'],
  ['ready, and on no ENI', { status: 'ready' }, null, 'stranded', 'stranded'],
  [
    'being assigned, within the grace',
    { status: 'assigning', movedAt: NOW - REST.graceMs + 1 },
    onA,
    null,
    null,
  ],
  [
    'being assigned, after the grace',
    { status: 'assigning', movedAt: NOW - REST.graceMs },
    null,
    'stranded',
    'taken',
  ],
  [
    'being taken off, within the grace',
    { status: 'unassigning', movedAt: NOW - REST.graceMs + 1 },
    null,
    null,
    null,
  ],
  [
    'being taken off, after the grace',
    { status: 'unassigning', movedAt: NOW - REST.graceMs },
    onA,
    'stranded',
    'abandoned',
  ],
  ['held: evidence decides', { status: 'allocated' }, null, null, null],
  ['occupied, and for long on no ENI', { status: 'occupied', absentSince: 1 }, null, 'vacated', 'vacated'],
  ['free, and shown there', { status: 'free', iface: null }, onA, 'foreign', 'foreign'],
];
for (const [what, difference, at, kind, move] of ofLeft)
  drift(`of an ENI that has left, ${what}: ${kind ?? 'none'}`, () => {
    const found = driftOf({ ...ROW, ...difference }, at, LEFT, REST, NOW);
    assert.is(found?.kind ?? null, kind);
    assert.is(found?.change?.move ?? null, move);
    if (kind === 'stranded') assert.is(found?.change?.iface, at?.eni ?? A);
  });

drift('the change says where EC2 showed the address', () => {
  assert.equal(driftOf(ROW, primaryOfA, WHOLE, REST, NOW)?.change, {
    row: ROW,
    move: 'foreign',
    iface: A,
    primary: true,
  });
});
drift("a ready address of another ledger's ENI is not astray", () => {
  assert.is(driftOf({ ...ROW, status: 'ready' }, null, NOT_OURS, REST, NOW), null);
});

drift("an address on another ledger's ENI is not ours to take off", () => {
  const row: Allocation = {
    ...ROW,
    ...{ status: 'free', leftIface: B, leftAt: NOW - REST.graceMs, leftUnsure: true },
  };
  assert.is(driftOf(row, onB, NOT_OURS, REST, NOW)?.kind, 'foreign');
});

const plans: [row: Partial<Allocation>, at: Sighting | null, plan: string][] = [
  [{ status: 'free' }, onB, 'becomes occupied'],
  [{ status: 'free', leftIface: B, leftAt: NOW - REST.graceMs, leftUnsure: true }, onB, 'take it off'],
  [{ status: 'ready' }, null, 'take it off'],
  [{ status: 'allocated' }, null, 'assign it again'],
  [{ status: 'allocated' }, onB, 'only reported'],
];
for (const [difference, at, plan] of plans)
  drift(`${difference.status} on ${at?.eni ?? 'no ENI'}: ${plan}`, () => {
    const found = driftOf({ ...ROW, ...difference }, at, WHOLE, REST, NOW);
    assert.is(found === null ? null : planFor(found), plan);
  });

const words = suite('drift in words');
const texts: [row: Partial<Allocation>, at: Sighting | null, text: string][] = [
  [{ status: 'free' }, onB, '10.0.1.6 free in the ledger, but on eni-0b'],
  [
    { status: 'free', leftIface: B, leftAt: NOW - REST.graceMs, leftUnsure: true },
    onB,
    '10.0.1.6 free in the ledger, but still on eni-0b, which it was taken off',
  ],
  [{ status: 'ready' }, onB, '10.0.1.6 ready on eni-0a in the ledger, but on eni-0b'],
  [{ status: 'ready' }, null, '10.0.1.6 ready on eni-0a in the ledger, but not there'],
  [{ status: 'allocated' }, null, '10.0.1.6 held by web on eni-0a, but not there'],
  [{ status: 'allocated', holder: null }, onB, '10.0.1.6 held by a container on eni-0a, but on eni-0b'],
  [{ status: 'allocated', missingSince: 1 }, onA, '10.0.1.6 held by web, and back on eni-0a'],
  [{ status: 'occupied' }, onB, '10.0.1.6 occupied, now seen on eni-0b'],
  [{ status: 'occupied' }, null, '10.0.1.6 occupied in the ledger, but on no ENI'],
  [{ status: 'occupied', absentSince: 1 }, null, '10.0.1.6 occupied in the ledger, but on no ENI for long'],
];
for (const [difference, at, text] of texts)
  words(text, () => {
    const found = driftOf({ ...ROW, ...difference }, at, WHOLE, REST, NOW);
    assert.is(found === null ? null : describe(found), text);
  });

for (const s of [drift, words]) s.run();
