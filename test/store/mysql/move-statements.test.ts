// Goal: what a container waits for is one statement, with the history too. Method: the statements of a move, which nobody
// runs.
import type { Change, MoveName } from '../../../src/domain/allocation.ts';
import { moveStatements } from '../../../src/store/mysql/move-statements.ts';
import { ENI, ip, rowWith } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';

const change = (move: MoveName, last = 10, more: Partial<Change> = {}): Change => ({
  ...{ row: rowWith({ ip: ip(last), iface: ENI }), move, call: `call ${last}`, ...more },
});
const ALONE = ['SET', 'UPDATE', 'SELECT'];
const NOTED = ['SET', 'START', 'UPDATE', 'INSERT', 'COMMIT', 'SELECT'];
const begun = { ec2: { id: 'call-1' } };
const ended = { ec2: { id: 'call-1', result: 'done' } };

const PACKETS: [what: string, changes: Change[], withHistory: string[], without: string[]][] = [
  ['a claim', [change('claim')], ALONE, ALONE],
  ['claims', [change('claim'), change('claim', 11)], ALONE, ALONE],
  ['a repeated request', [change('repeat')], ALONE, ALONE],
  ['the end of a holding', [change('release')], NOTED, ALONE],
  ['ends', [change('release'), change('release', 11)], NOTED, ALONE],
  ['the intent of an EC2 call', [change('unassign', 10, begun)], NOTED, ALONE],
  ['its result', [change('unassigned', 10, ended)], NOTED.with(3, 'UPDATE'), ALONE],
];
const statements = suite('statements of a move');
for (const [what, changes, ...expected] of PACKETS)
  statements(`${what}: has the statements that it needs`, () => {
    for (const [i, hasHistory] of [true, false].entries()) {
      const packet = moveStatements(changes, 'token', 0, hasHistory);
      assert.equal(
        packet.map(({ sql }) => sql.split(' ')[0]),
        expected[i],
        `history ${hasHistory}`,
      );
    }
  });
statements.run();
