// Goal: every move does to a row what it says and nothing else, and starts only where it says. Method: a row with
// something in every column, and the table of moves with all that each may change.
import type { Ipv4 } from '../../src/domain/address.ts';
import {
  type Allocation,
  type Change,
  isRested,
  MOVES,
  type MoveName,
  mayStillLeave,
  moved,
  ofItsClaim,
  STATUSES,
  type Status,
} from '../../src/domain/allocation.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { ENI, OTHER_ENI, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const [A, B, C] = [ENI, OTHER_ENI, 'eni-0c' as EniId];
const NOW = 9_000;
const ROW = rowWith({
  primary: true,
  movedAt: 1_000,
  restedSince: 2_000,
  restedFrom: C,
  leftIface: C,
  leftAt: 3_000,
  placedAt: 3_500,
  missingSince: 4_000,
  repairUnsureAt: 4_500,
  absentSince: 5_000,
  refusedAt: 6_000,
  holder: 'web',
  containerId: 'c'.repeat(64),
  containerSince: 1_000,
  instance: 'i-0a' as InstanceId,
  requestId: 'request-1',
  releaseId: 'release-1',
  claimedAt: 1_000,
  repeatedAt: 1_500,
  reservedFor: 'the printer',
  token: 'before',
});
const rests = { restedSince: NOW, restedFrom: A, releaseId: 'release-2' };
const given = { holder: 'db', instance: 'i-0b' as InstanceId, requestId: 'request-2' };
const ends = { holder: null, containerId: null, containerSince: null, instance: null, ...rests };
const forgotten = { missingSince: null, repairUnsureAt: null };
type Effects = Partial<Allocation>;

// What each move changes in ROW, beside the status, the generation, the time and the token.
const table: [move: MoveName, from: Status, to: Status, effects: Effects][] = [
  ['assign', 'free', 'assigning', { iface: B }],
  ['assigned', 'assigning', 'ready', { refusedAt: null, placedAt: NOW }],
  ['refused', 'assigning', 'free', { iface: null }],
  ['skipped', 'assigning', 'free', { iface: null, refusedAt: NOW }],
  ['taken', 'assigning', 'occupied', { iface: B, refusedAt: NOW }],
  ['take over', 'assigning', 'unassigning', {}],
  ['claim', 'ready', 'allocated', { ...given, claimedAt: NOW, repeatedAt: null }],
  ['repeat', 'allocated', 'allocated', { movedAt: 1_000, repeatedAt: NOW }],
  ['release', 'allocated', 'ready', ends],
  ['undo', 'allocated', 'ready', { ...ends, requestId: null }],
  ['undo missing', 'allocated', 'unassigning', { ...ends, requestId: null, ...forgotten }],
  ['surrender', 'occupied', 'ready', { ...rests, absentSince: null, refusedAt: null }],
  ['retire', 'allocated', 'unassigning', { ...ends, ...forgotten }],
  ['missed', 'allocated', 'allocated', { movedAt: 1_000 }],
  ['found', 'allocated', 'allocated', { movedAt: 1_000, missingSince: null, placedAt: NOW }],
  ['repair', 'allocated', 'allocated', { movedAt: 1_000, repairUnsureAt: NOW }],
  ['repaired', 'allocated', 'allocated', { movedAt: 1_000, ...forgotten, placedAt: NOW }],
  ['repair refused', 'allocated', 'allocated', { movedAt: 1_000, repairUnsureAt: null }],
  ['unassign', 'ready', 'unassigning', {}],
  ['unassign again', 'unassigning', 'unassigning', {}],
  ['unassigned', 'unassigning', 'free', { iface: null, leftIface: A, leftAt: NOW, repairUnsureAt: null }],
  ['kept', 'unassigning', 'ready', {}],
  ['foreign', 'free', 'occupied', { iface: B, primary: false }],
  ['usurped', 'ready', 'occupied', { iface: B, primary: false }],
  ['stranded', 'ready', 'occupied', { iface: B, primary: false }],
  ['strayed', 'ready', 'occupied', {}],
  ['cleared', 'occupied', 'ready', { ...rests, absentSince: null, refusedAt: null }],
  ['abandoned', 'unassigning', 'occupied', { iface: B, primary: false }],
  ['seen', 'occupied', 'occupied', { iface: B, primary: false, absentSince: null, refusedAt: null }],
  ['unseen', 'occupied', 'occupied', {}],
  ['vacated', 'occupied', 'free', { iface: null, primary: false, ...rests, absentSince: null }],
  ['reserve', 'free', 'reserved', {}],
  ['hold', 'free', 'reserved', { reservedFor: 'the router' }],
  ['unhold', 'reserved', 'free', { reservedFor: null }],
];

const make = (row: Allocation, move: MoveName, more: Partial<Change> = {}) =>
  moved(row, { row, move, ...more }, NOW, 'after');
const GIVEN = {
  ...{ iface: B, primary: false, ...given, releaseId: 'release-2', refused: true },
  reservedFor: 'the router',
};

const moves = suite('move');
moves('moves: all are in the table', () =>
  assert.equal(table.map(([move]) => move).sort(), Object.keys(MOVES).sort()),
);
for (const [move, from, to, effects] of table) {
  moves(`${move}: ${from} → ${to}, ${Object.keys(effects).join(', ') || 'nothing else'}`, () => {
    const row = { ...ROW, status: from };
    const changed = { status: to, generation: 8, movedAt: NOW, token: 'after', ...effects };
    assert.equal(make(row, move, GIVEN), { ...row, ...changed });
  });
  moves(`${move}: starts nowhere else`, () => {
    for (const status of STATUSES.filter(one => one !== from))
      assert.is(make({ ...ROW, status }, move, GIVEN), null, status);
  });
}

const clean: Allocation = { ...ROW, missingSince: null, absentSince: null, refusedAt: null };
moves('a mark: is set once, and keeps its time', () => {
  assert.is(make({ ...clean, status: 'allocated' }, 'missed')?.missingSince, NOW);
  assert.is(make({ ...clean, status: 'occupied' }, 'unseen')?.absentSince, NOW);
});
moves('taken: an address whose carrier was seen is not known from its refusal', () => {
  assert.is(make({ ...ROW, status: 'assigning' }, 'taken', { iface: B, refused: false })?.refusedAt, null);
});
moves('a value that is not given: comes out empty', () => {
  assert.is(make({ ...ROW, status: 'ready' }, 'claim')?.holder, null);
  assert.is(make({ ...ROW, status: 'assigning' }, 'taken')?.iface, null);
  assert.is(make(ROW, 'foreign', { iface: B })?.primary, false);
});
moves('a holding that ends without the id of a release: leaves that of the last one', () => {
  assert.is(make({ ...ROW, status: 'allocated' }, 'release')?.releaseId, 'release-1');
});
const held = { ...ROW, status: 'allocated' } as const;
const claims: [what: string, row: Allocation, isOfIt: boolean][] = [
  ['of a claim that noted them: count', held, true],
  ['of a claim before that was noted: count', { ...held, claimedAt: null }, true],
  ['under the claim of an old server: do not count', { ...held, movedAt: 7_000 }, false],
  ['after the release: stay', { ...ROW, status: 'ready', movedAt: 7_000 }, true],
];
for (const [what, row, isOfIt] of claims)
  moves(`instance and request ${what}`, () =>
    assert.equal(
      [ofItsClaim(row).instance, ofItsClaim(row).requestId],
      isOfIt ? [row.instance, row.requestId] : [null, null],
    ),
  );

const ids: [what: string, row: Allocation, isOfIt: boolean][] = [
  ['of this holding: counts', held, true],
  ['under the claim of an old server: does not count', { ...held, movedAt: 7_000 }, false],
  ['after the release by an old server: does not count', { ...ROW, status: 'ready', movedAt: 7_000 }, false],
  ['in a row that nobody holds: does not count', { ...ROW, status: 'ready' }, false],
];
for (const [what, row, isOfIt] of ids)
  moves(`the id of a container ${what}`, () => {
    const { containerId, containerSince } = ofItsClaim(row);
    assert.equal([containerId, containerSince], isOfIt ? [ROW.containerId, 1_000] : [null, null]);
  });

const others: [what: string, difference: Partial<Allocation>][] = [
  ['its subnet', { subnet: 'subnet-02' as SubnetId }],
  ['its address', { ip: '10.0.1.7' as Ipv4 }],
  ['its status', { status: 'occupied' }],
  ['its ENI', { iface: B }],
  ['its generation', { generation: 6 }],
];
for (const [what, difference] of others)
  moves(`a row that has changed in ${what}: is not moved`, () => {
    assert.is(moved(ROW, { row: { ...ROW, ...difference }, move: 'reserve' }, NOW, 'after'), null);
  });
moves('a row: may have changed in what it is not named by', () => {
  const before = { ...ROW, holder: 'other', token: 'older', movedAt: 0 };
  assert.is(moved(ROW, { row: before, move: 'reserve' }, NOW, 'after')?.status, 'reserved');
});

const REST = { cooldownMs: 30, quarantineMs: 600, graceMs: 330 };
/** Given up on A at 1 s. */
const GIVEN_UP = { restedSince: 1_000, restedFrom: A };
const resting = suite('rest');
const rested: [what: string, row: Partial<Allocation>, eni: EniId, now: number, rested: boolean][] = [
  ['never given up', { restedSince: null }, A, 0, true],
  ['at once, on its own ENI', GIVEN_UP, A, 1_000, false],
  ['just before the cooldown ends', GIVEN_UP, A, 1_029, false],
  ['when the cooldown ends', GIVEN_UP, A, 1_030, true],
  ['after the cooldown, on another ENI', GIVEN_UP, B, 1_030, false],
  ['just before the quarantine ends', GIVEN_UP, B, 1_599, false],
  ['when the quarantine ends', GIVEN_UP, B, 1_600, true],
  ['given up on an ENI that nobody knows', { restedSince: 1_000, restedFrom: null }, A, 1_030, false],
];
for (const [what, row, eni, now, want] of rested)
  resting(`${what}: ${want ? 'rested' : 'not rested'}`, () =>
    assert.is(isRested({ ...ROW, ...row }, eni, REST, now), want),
  );

/** Taken off A at 1 s. */
const LEFT = { leftIface: A, leftAt: 1_000 };
const UNSURE = { ...LEFT, leftUnsure: true };
const leaving = suite('late unassign');
const left: [what: string, row: Partial<Allocation>, eni: EniId, now: number, may: boolean][] = [
  ['at once', LEFT, A, 1_000, true],
  ['while reads may be late', LEFT, A, 300_999, true],
  ['when no read is that late', LEFT, A, 301_000, false],
  ['unsure, when no read is that late', UNSURE, A, 301_000, true],
  ['unsure, just before the grace ends', UNSURE, A, 930_999, true],
  ['unsure, when the grace ends', UNSURE, A, 931_000, false],
  ['on another ENI', LEFT, B, 1_000, false],
  ['never taken off', { leftIface: null, leftAt: null }, A, 1_000, false],
];
for (const [what, row, eni, now, want] of left)
  leaving(`${what}: ${want ? 'may still come' : 'is over'}`, () =>
    assert.is(mayStillLeave({ ...ROW, ...row }, eni, { ...REST, graceMs: 930_000 }, now), want),
  );
leaving('a grace that tests make shorter than late reads: is long enough', () => {
  assert.is(mayStillLeave({ ...ROW, ...LEFT }, A, REST, 1_329), true);
  assert.is(mayStillLeave({ ...ROW, ...LEFT }, A, REST, 1_330), false);
});

for (const s of [moves, resting, leaving]) s.run();
