// Goal: a holding is told with all that is known of it, and never with what is of another. Method: tables.
import { type Allocation, type Change, MOVES, type MoveName, ruleOf } from '../../src/domain/allocation.ts';
import { type Beginning, endedTenure, endsHolding, tenureOf } from '../../src/domain/history.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { ENI, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const ID = 'c'.repeat(64);
const held = rowWith({
  ...{ status: 'allocated', iface: ENI, generation: 4, movedAt: 1_000, token: 'cccccccc-of the last move' },
  ...{ holder: 'web', instance: 'i-0a' as InstanceId, containerId: ID, containerSince: 1_000 },
} satisfies Partial<Allocation>);
const noted: Beginning = { at: 1_000, call: 'call-1', server: 'aaaaaaaa' };
const after = rowWith({ status: 'ready', iface: ENI, generation: 5, movedAt: 2_000, token: 'bbbbbbbb-1' });
const release: Change = { row: held, move: 'release', call: 'call-2' };

const history = suite('history');

history('who holds an address: is told by its row and what its claim noted', () =>
  assert.equal(tenureOf(held, noted), {
    ...{
      since: 1_000,
      until: null,
      isHeld: true,
      eni: ENI,
      instance: 'i-0a',
      container: 'web',
      containerId: ID,
    },
    ...{ request: 'call-1', server: 'aaaaaaaa', endedBy: null, endRequest: null, endServer: null },
  }),
);

history('a holding that has ended: has both calls and both servers', () =>
  assert.equal(endedTenure(held, noted, { ...release, cause: 'evidence' }, after), {
    ...{
      since: 1_000,
      until: 2_000,
      isHeld: false,
      eni: ENI,
      instance: 'i-0a',
      container: 'web',
      containerId: ID,
    },
    ...{
      request: 'call-1',
      server: 'aaaaaaaa',
      endedBy: 'evidence',
      endRequest: 'call-2',
      endServer: 'bbbbbbbb',
    },
  }),
);

for (const [what, begin] of [
  ['of an earlier claim', { ...noted, at: 500 }],
  ['nothing', null],
] as const)
  history(`a claim by a server of the release before, with ${what} noted: its call is not known`, () => {
    for (const one of [tenureOf(held, begin), endedTenure(held, begin, release, after)])
      assert.equal([one.since, one.container, one.request, one.server], [1_000, 'web', null, null]);
  });

history(
  'the id of an earlier container, which a server of the release before left in the row: is not told',
  () => {
    const other = { ...held, containerSince: 500 };
    for (const one of [tenureOf(other, noted), endedTenure(other, noted, release, after)])
      assert.equal([one.container, one.containerId], ['web', null]);
  },
);

history('every move that begins or ends a holding: is one that the history knows', () => {
  const moves = Object.keys(MOVES) as MoveName[];
  const where = (is: (from: string, to: string) => boolean) =>
    moves.filter(move => is(ruleOf(move).from, ruleOf(move).to));
  assert.equal(
    where((from, to) => from !== 'allocated' && to === 'allocated'),
    ['claim'],
  );
  for (const move of where((from, to) => from === 'allocated' && to !== 'allocated'))
    assert.ok(endsHolding(move), move);
});

const CAUSES: [move: Change['move'], cause: string][] = [
  ['undo', 'rollback'],
  ['undo missing', 'rollback'],
  ['release', 'release'],
  ['retire', 'release'],
];
for (const [move, cause] of CAUSES)
  history(`${move}: ends a holding by ${cause}, unless another cause is given`, () => {
    assert.is(endedTenure(held, noted, { ...release, move }, after).endedBy, cause);
    assert.is(endedTenure(held, noted, { ...release, move, cause: 'operator' }, after).endedBy, 'operator');
  });

history('a surrender: ends a holding of which nothing is known', () => {
  const left = { containerId: ID, containerSince: 1_000 };
  const occupied = rowWith({ status: 'occupied', iface: ENI, movedAt: 1_000, ...left });
  const tenure = endedTenure(occupied, noted, { row: occupied, move: 'surrender' }, after);
  assert.equal([tenure.since, tenure.request, tenure.server, tenure.until], [null, null, null, 2_000]);
  assert.is(tenure.containerId, null);
});
history.run();
