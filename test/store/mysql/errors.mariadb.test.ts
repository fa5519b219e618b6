// Goal: at whatever step of a move's transaction the server reports whatever error, what the store answers is what
// the ledger says. Method: a gate that adds to the packet of a move, so that the server stops there by itself; a
// statement that is done and reported as failed is a block that ends with the error.
import { randomUUID } from 'node:crypto';
import type { Allocation } from '../../../src/domain/allocation.ts';
import { isError } from '../../../src/domain/error.ts';
import type { LateOutcomes, Store } from '../../../src/store/store.ts';
import {
  changesOf,
  type Gated,
  isTold,
  MOVE_PACKET,
  openGated,
  SHAPES,
  type Shape,
} from '../../kit/databases/gated.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { make, one, rowsOf } from '../../kit/ledger.ts';
import { byLength } from '../../kit/length.ts';
import { ipsOf } from '../../kit/rows.ts';
import { sideBySide } from '../../kit/side-by-side.ts';
import { assert, suite } from '../../kit/uvu.ts';

const mariadb = await sharedMariadb();
/** What a server may say of a statement. 1180: a COMMIT failed; 1317: the statement was killed; 3024: it took too
 *  long; 4031: the server closed the session. */
const ERRNOS = byLength<readonly number[]>({
  full: [1020, 1040, 1047, 1053, 1062, 1146, 1180, 1205, 1213, 1290, 1317, 1406, 1792, 1836, 3024, 4031],
  short: [1047, 1146, 1180, 1205, 1213, 1317, 4031],
  leftOut: '9 of 16 errors that MariaDB may report at a step of a move',
});
const CALL_TIMEOUT_MS = 500;

/** Most of a move is its pauses between tries. */
const LANES = 8;

const suiteOfErrors = suite('store: MariaDB reports an error');
const errors = sideBySide<Gated>(
  suiteOfErrors,
  LANES,
  () => openGated(mariadb, { callTimeoutMs: CALL_TIMEOUT_MS }),
  ({ close }) => close(),
);
suiteOfErrors.after(() => mariadb.stop());

const signal = (errno: number): string => `SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = ${errno}`;
type Alter = (statements: string[]) => string[];
const before =
  (step: number, errno: number): Alter =>
  statements =>
    statements.toSpliced(step, 0, signal(errno));
const doneBut =
  (step: number, errno: number): Alter =>
  statements =>
    statements.with(step, `BEGIN NOT ATOMIC ${statements[step]}; ${signal(errno)}; END`);

/** Both rows ready again. */
async function restore(witness: Store): Promise<void> {
  for (const last of [10, 11]) {
    const { status } = await one(witness, last);
    if (status === 'allocated') await make(witness, last, 'release');
    if (status === 'unassigning') await make(witness, last, 'kept');
  }
}

interface Tried {
  readonly answer: string;
  /** How often the claimed row was written. */
  readonly writes: number;
}
/** Claims one address, and takes another off where a transaction is wanted; or releases one: in one packet that `alter` changes;
 *  everything after it is refused with `then`, as long as the move lasts. Whatever the store answers, what it says was
 *  moved is what was moved. */
async function tryMove(context: Gated, shape: Shape, alter: Alter, then: number | null): Promise<Tried> {
  const { store, witness, gate } = context;
  await restore(witness);
  if (shape.name === 'release') await make(witness, 10, 'claim');
  const [first, second] = [await one(witness, 10), await one(witness, 11)];
  const call = randomUUID();
  const changes = changesOf(shape, first, second, call);
  let isAltered = false;
  gate.rewrite(sql => {
    if (isAltered) return then !== null && sql.includes('`allocation`') ? signal(then) : sql;
    if (!sql.includes(MOVE_PACKET)) return sql;
    isAltered = true;
    return alter(sql.split('; ')).join('; ');
  });
  const { told, answer } = await answerOf(store.move(changes), async () => {
    gate.rewrite(null);
    return await store.lateOutcomes();
  });
  gate.rewrite(null);
  const rows = await rowsOf(witness, [10, 11]);
  const isMoved = (row: Allocation) => row.status !== (row.ip === first.ip ? first : second).status;
  assert.equal(told, ipsOf(rows.filter(isMoved)), answer);
  if (shape.name === 'release')
    assert.is(await isTold(witness, first, call), told.length > 0, `${answer}: the history says the same`);
  return { answer, writes: (rows[0]?.generation ?? 0) - first.generation };
}

/** What the store says was moved, be it later. */
async function answerOf(move: Promise<Allocation[]>, learn: () => Promise<LateOutcomes>) {
  try {
    const rows = await move;
    return { told: ipsOf(rows), answer: rows.length === 0 ? 'no' : 'made' };
  } catch (error) {
    assert.ok(isError(error, 'store-down', 'internal'), String(error));
    const { moved, unsettled } = await learn();
    assert.is(unsettled, 0);
    return { told: ipsOf(moved.map(({ row }) => row)), answer: error.code };
  }
}

/** Where in the packet the error comes, and what the server does with the statement. */
const points = (shape: Shape, errno: number): [what: string, alter: Alter][] => [
  ...shape.steps.map((name, step): [string, Alter] => [`before ${name} (${step})`, before(step, errno)]),
  ['although it is committed', doneBut(shape.commits, errno)],
];
/** Of a statement that commits itself a server reports these only when it has done nothing. */
const UNDONE = [1205, 1146, 1406];

for (const shape of SHAPES)
  for (const errno of ERRNOS) {
    const all = points(shape, errno);
    const real = shape.name === 'one statement' && UNDONE.includes(errno) ? all.slice(0, -1) : all;
    for (const [what, alter] of real)
      errors(`${errno} ${what} of a ${shape.name}: the answer is the truth`, async context => {
        await tryMove(context, shape, alter, null);
      });
  }

for (const shape of SHAPES)
  for (const errno of [1205, 1213, 1047, 1290]) {
    const all = points(shape, errno);
    for (const [what, alter] of errno === 1205 ? all.slice(0, -1) : all)
      errors(`${errno} ${what} of a ${shape.name}, then no quorum: it is told of later`, async context => {
        await tryMove(context, shape, alter, 1047);
      });
  }

for (const shape of SHAPES)
  errors(`a lock timeout in a ${shape.name}: makes nobody's rows stale, it is tried again`, async context => {
    for (const [step, name] of shape.steps.entries())
      if (name === 'UPDATE')
        assert.equal(await tryMove(context, shape, before(step, 1205), null), { answer: 'made', writes: 1 });
  });
suiteOfErrors.run();
