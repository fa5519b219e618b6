// Goal: the moves that are noted are read as holdings, also where some of them are not there. Method: tables.
import type { Cause } from '../../src/domain/allocation.ts';
import { type HistoryRecord, type NotedMove, tenuresOf } from '../../src/domain/history.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { ENI, ip, SUBNET } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

let generation = 0;
const record = (at: number, move: NotedMove, more: Partial<HistoryRecord> = {}): HistoryRecord => ({
  ...{ subnet: SUBNET, ip: ip(10), generation: ++generation, at, move, iface: ENI, instance: null },
  ...{ holder: null, cause: 'release' as Cause, request: null, server: 'aaaaaaaa', ...more },
});
const claim = (at: number, holder: string) =>
  record(at, 'claim', { holder, cause: 'request', instance: 'i-0a' as InstanceId, request: `for ${holder}` });

const short = (records: readonly HistoryRecord[]) =>
  tenuresOf(records).map(one => [one.container, one.since, one.until, one.isHeld, one.endedBy]);

const history = suite('history');
const cases: [what: string, records: HistoryRecord[], holdings: unknown[]][] = [
  ['nothing', [], []],
  ['one that goes on', [claim(1, 'a')], [['a', 1, null, true, null]]],
  [
    'one after the other, the newest first',
    [claim(1, 'a'), record(2, 'release'), claim(3, 'b'), record(4, 'undo', { cause: 'rollback' })],
    [
      ['b', 3, 4, false, 'rollback'],
      ['a', 1, 2, false, 'release'],
    ],
  ],
  ['one whose claim is not there', [record(2, 'release')], [[null, null, 2, false, 'release']]],
  [
    'one whose end is not there',
    [claim(1, 'a'), claim(3, 'b')],
    [
      ['b', 3, null, true, null],
      ['a', 1, null, false, null],
    ],
  ],
];
for (const [what, records, holdings] of cases)
  history(`${what}: is told`, () => assert.equal(short(records), holdings));

history('a holding: has the ENI, the instance, both calls and both servers', () => {
  const end = record(2, 'retire', { cause: 'evidence', request: 'end', server: 'bbbbbbbb' });
  assert.equal(tenuresOf([claim(1, 'a'), end]), [
    {
      ...{ since: 1, until: 2, isHeld: false, eni: ENI, instance: 'i-0a', container: 'a' },
      ...{
        request: 'for a',
        server: 'aaaaaaaa',
        endedBy: 'evidence',
        endRequest: 'end',
        endServer: 'bbbbbbbb',
      },
    },
  ]);
});
history.run();
