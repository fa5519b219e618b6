// Goal: each difference between ledger and EC2 is known for what it is, and nothing is concluded too early.
// Method: one row, one sighting, one moment.
import { type Allocation, LATE_READS_MS, type MoveName, type Status } from '../../src/domain/allocation.ts';
import {
  ABSENT_FOR_MS,
  type DriftKind,
  describe,
  driftOf,
  planFor,
  REFUSED_FOR_MS,
  type Scene,
  type Sighting,
} from '../../src/domain/drift.ts';
import { ENI as A, OTHER_ENI as B, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const NOW = 10_000_000;
const REST = { cooldownMs: 30_000, quarantineMs: 600_000, graceMs: 930_000 };
const ROW = rowWith({ holder: 'web' });
const onA: Sighting = { eni: A, primary: false };
const onB: Sighting = { eni: B, primary: false };
const primaryOfA: Sighting = { eni: A, primary: true };
const primaryOfB: Sighting = { eni: B, primary: true };
const WHOLE: Scene = { ours: () => true, hasLeft: () => false, isWhole: true };
const NOT_OURS: Scene = { ...WHOLE, ours: () => false };
const OWN: Scene = { ...WHOLE, isWhole: false };
const LEFT: Scene = { ...NOT_OURS, hasLeft: eni => eni === A };
const settled = { placedAt: NOW - LATE_READS_MS };
const unsettled = { placedAt: NOW - LATE_READS_MS + 1 };
const leftB = (agoMs: number, leftUnsure = false) => ({ leftIface: B, leftAt: NOW - agoMs, leftUnsure });
const movedAgo = (ms: number) => ({ movedAt: NOW - ms });
const repairAgo = (ms: number) => ({ repairUnsureAt: NOW - ms });
const absentFor = (ms: number) => ({ absentSince: NOW - ms });
const refusedAgo = (ms: number) => ({ absentSince: 1, refusedAt: NOW - ms });

/** What closes a difference, where that is not the move of its name. */
const CLOSED_BY: Partial<Record<DriftKind, MoveName | null>> = {
  astray: null,
  missing: null,
  elsewhere: 'missed',
};
type Case = [
  what: string,
  row: Partial<Allocation>,
  at: Sighting | null,
  kind: DriftKind | null,
  closedBy?: MoveName,
];
type Cases = Partial<Record<Status, Case[]>>;

const whole: Cases = {
  free: [
    ['and on no ENI', { iface: null }, null, null],
    ['but on an ENI', { iface: null }, onB, 'foreign'],
    ['and shown where an Unassign of ours may be late', leftB(REST.graceMs - 1, true), onB, null],
    ['surely taken off there, by a read that may be late', leftB(LATE_READS_MS - 1), onB, null],
    ['surely taken off there, by a read that is not that late', leftB(LATE_READS_MS), onB, 'foreign'],
    [
      'but on the ENI of ours that it left, when no call of ours can be late',
      leftB(REST.graceMs, true),
      onB,
      'foreign',
    ],
    [
      'but on another ENI than the one that it left unsurely',
      { ...leftB(0, true), leftIface: A },
      onB,
      'foreign',
    ],
    ['and on another ENI than it left', { leftIface: A, leftAt: NOW }, onB, 'foreign'],
  ],
  ready: [
    ['and there', {}, onA, null],
    ['but on another ENI', settled, onB, 'usurped'],
    ['but on another ENI, too early to say', unsettled, onB, null],
    ['and lately the primary of an ENI that may be gone', unsettled, primaryOfB, null],
    ['and for long the primary of another ENI', settled, primaryOfB, 'usurped'],
    ['but the primary of its ENI', movedAgo(0), primaryOfA, 'usurped'],
    ['but on no ENI', settled, null, 'astray'],
    ['but on no ENI, too early to say', unsettled, null, null],
    [
      'given up just now where it was for long, but on another ENI',
      { ...movedAgo(0), ...settled },
      onB,
      'usurped',
    ],
    ['but on no ENI, and nobody noted since when', movedAgo(0), null, 'astray'],
  ],
  allocated: [
    ['and there', {}, onA, null],
    ['and there, and was missing', { missingSince: 1, ...movedAgo(0) }, onA, 'found'],
    ['and there, while a repair may still be applied', repairAgo(REST.graceMs - 1), onA, null],
    ['and there, and was missing, while a repair may be', { missingSince: 1, ...repairAgo(0) }, onA, 'found'],
    ['and there, when no repair may be applied', repairAgo(REST.graceMs), onA, 'found', 'repaired'],
    [
      'but on no ENI, when no repair may be applied',
      { ...settled, ...repairAgo(REST.graceMs) },
      null,
      'missing',
    ],
    [
      'claimed just now where it was for long, but on no ENI',
      { ...movedAgo(0), ...settled },
      null,
      'missing',
    ],
    ['but on no ENI, just after a repair', { ...unsettled, missingSince: null }, null, null],
    ['but on no ENI', settled, null, 'missing'],
    ['but on no ENI, too early to say', unsettled, null, null],
    ['and still missing', { ...unsettled, missingSince: 1 }, null, 'missing'],
    ['but on another ENI', settled, onB, 'elsewhere'],
    ['on another ENI, and marked as missing', { ...settled, missingSince: 1 }, onB, null],
    ['but on another ENI, too early to say', unsettled, onB, null],
  ],
  occupied: [
    ['and known', {}, onA, null],
    ['and on another ENI', {}, onB, 'seen'],
    ['and a primary now', {}, primaryOfA, 'seen'],
    ['and back', { absentSince: 1 }, onA, 'seen'],
    ['known from a refusal, and seen', { refusedAt: 1 }, onA, 'seen'],
    ['and gone', movedAgo(0), null, 'unseen'],
    ['and gone for a moment', absentFor(ABSENT_FOR_MS - 1), null, null],
    ['and gone for long', absentFor(ABSENT_FOR_MS), null, 'vacated'],
    ['refused less than an hour ago', refusedAgo(REFUSED_FOR_MS - 1), null, null],
    ['refused an hour ago', refusedAgo(REFUSED_FOR_MS), null, 'vacated'],
  ],
  reserved: [['whatever is seen', {}, onB, null]],
  assigning: [['which its call settles', {}, onA, null]],
  unassigning: [['which its call settles', {}, null, null]],
};
const ofOwn: Cases = {
  ready: [['but not on its ENI', {}, null, 'astray']],
  allocated: [['but not on its ENI', {}, null, 'missing']],
  free: [['but on an ENI of ours', { iface: null }, onA, 'foreign']],
  occupied: [
    ['and on no ENI of ours', { iface: B }, null, null],
    ['and for long on no ENI of ours', { absentSince: 1 }, null, null],
    ['and on an ENI of ours', { iface: B }, onA, 'seen'],
  ],
};
const ofLeft: Cases = {
  ready: [
    ['and shown there', {}, onA, 'stranded'],
    ['and on another ENI', {}, onB, 'stranded'],
    ['and on no ENI', {}, null, 'stranded'],
  ],
  assigning: [
    ['within the grace', movedAgo(REST.graceMs - 1), onA, null],
    ['after the grace', movedAgo(REST.graceMs), null, 'stranded', 'taken'],
  ],
  unassigning: [
    ['within the grace', movedAgo(REST.graceMs - 1), null, null],
    ['after the grace', movedAgo(REST.graceMs), onA, 'stranded', 'abandoned'],
  ],
  allocated: [['which evidence decides', {}, null, null]],
  occupied: [['and for long on no ENI', { absentSince: 1 }, null, 'vacated']],
  free: [['and shown there', { iface: null }, onA, 'foreign']],
};

const drift = suite('drift');
function finds(prefix: string, scene: Scene, status: Status, [what, patch, at, kind, named]: Case): void {
  const byKind = kind !== null && kind in CLOSED_BY ? CLOSED_BY[kind] : kind;
  drift(`${prefix}${status}, ${what}: ${kind ?? 'none'}`, () => {
    const row = { ...ROW, status, ...patch };
    const found = driftOf(row, at, scene, REST, NOW);
    assert.is(found?.kind ?? null, kind);
    assert.is(found?.change?.move ?? null, named ?? byKind);
    if (kind === 'stranded') assert.is(found?.change?.iface, at?.eni ?? A);
    if (found === null) return;
    assert.is(found.row, row);
    assert.is(found.seenOn, at?.eni ?? null);
  });
}
for (const [prefix, scene, cases] of [
  ['', WHOLE, whole],
  ['of our own ENIs alone, ', OWN, ofOwn],
  ['of an ENI that has left, ', LEFT, ofLeft],
] as const)
  for (const [status, rows] of Object.entries(cases) as [Status, Case[]][])
    for (const row of rows) finds(prefix, scene, status, row);

drift('the change: says where EC2 showed the address', () => {
  const change = { row: ROW, move: 'foreign', iface: A, primary: true };
  assert.equal(driftOf(ROW, primaryOfA, WHOLE, REST, NOW)?.change, change);
});
drift("another ledger's ENI: a ready address of it is not astray", () => {
  assert.is(driftOf({ ...ROW, status: 'ready' }, null, NOT_OURS, REST, NOW), null);
});
drift("another ledger's ENI: an address on it is not ours to take off", () => {
  assert.is(driftOf({ ...ROW, ...leftB(REST.graceMs, true) }, onB, NOT_OURS, REST, NOW)?.kind, 'foreign');
});

const plans: [row: Partial<Allocation>, at: Sighting | null, plan: string][] = [
  [{ status: 'free' }, onB, 'becomes occupied'],
  [{ status: 'ready' }, null, 'take it off'],
  [{ status: 'allocated' }, null, 'assign it again'],
  [{ status: 'allocated' }, onB, 'only reported'],
];
for (const [patch, at, plan] of plans)
  drift(`${patch.status} on ${at?.eni ?? 'no ENI'}: ${plan}`, () => {
    const found = driftOf({ ...ROW, ...patch }, at, WHOLE, REST, NOW);
    assert.is(found === null ? null : planFor(found), plan);
  });

const texts: [row: Partial<Allocation>, at: Sighting | null, text: string][] = [
  [{ status: 'free' }, onB, '10.0.1.6 free in the ledger, but on eni-0b'],
  [{ status: 'ready' }, onB, '10.0.1.6 ready on eni-0a in the ledger, but on eni-0b'],
  [{ status: 'ready' }, null, '10.0.1.6 ready on eni-0a in the ledger, but not there'],
  [{ status: 'allocated' }, null, '10.0.1.6 held by web on eni-0a, but not there'],
  [{ status: 'allocated', holder: null }, onB, '10.0.1.6 held by a container on eni-0a, but on eni-0b'],
  [{ status: 'allocated', missingSince: 1 }, onA, '10.0.1.6 held by web, and back on eni-0a'],
  [
    { status: 'allocated', repairUnsureAt: 1 },
    onA,
    '10.0.1.6 held by web on eni-0a, and no repair may be applied any more',
  ],
  [{ status: 'occupied' }, onB, '10.0.1.6 occupied, now seen on eni-0b'],
  [{ status: 'occupied' }, null, '10.0.1.6 occupied in the ledger, but on no ENI'],
  [{ status: 'occupied', absentSince: 1 }, null, '10.0.1.6 occupied in the ledger, but on no ENI for long'],
];
for (const [patch, at, text] of texts)
  drift(`in words: ${text}`, () => {
    const found = driftOf({ ...ROW, ...patch }, at, WHOLE, REST, NOW);
    assert.is(found === null ? null : describe(found), text);
  });
drift.run();
