// Goal: a move between the two reads of the history is not told twice. Method: their rows, as if it had come in between.
import { tenuresIn } from '../../src/store/history-reads.ts';
import { ENI, ip, SUBNET } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const of = { subnet: SUBNET, ip: ip(10), iface: ENI };
const held = (generation: number) => ({
  ...of,
  ...{ generation, status: 'allocated', moved_at: 1000, claimed_at: 1000, holder: 'web', instance: null },
  ...{ claim_call: 'call-1', claim_server: 'aaaaaaaa' },
});
const record = (generation: number) => ({
  ...of,
  ...{ generation, since: 1000, at: 2000, holder: 'web', instance: null, cause: 'release' },
  ...{ claim_call: 'call-1', claim_server: 'aaaaaaaa', request: 'end-1', server: 'bbbbbbbb' },
});

const reads = suite('reads of the history');
const CASES: [what: string, rows: Record<string, unknown>[], held: boolean[]][] = [
  ['nothing', [], []],
  ['who holds it', [held(7)], [true]],
  ['who holds it, after another', [held(7), record(5)], [true, false]],
  ['who held it', [record(8), record(5)], [false, false]],
  ['who held it until the second read', [held(7), record(8), record(5)], [false, false]],
  ['who held it until the second read, with moves in between', [held(7), record(9)], [false]],
];
for (const [what, rows, isHeld] of CASES)
  reads(`${what}: is told once`, () =>
    assert.equal(
      tenuresIn(rows).map(one => one.isHeld),
      isHeld,
    ),
  );
reads.run();
