// Goal: at whatever step of a move's transaction the server reports whatever error, what the store answers is what
// the ledger says. Method: a gate that adds to the packet of a move, so that the server stops there by itself; a
// statement that is done and reported as failed is a block that ends with the error.
import type { Allocation } from '../../../src/domain/allocation.ts';
import { isError } from '../../../src/domain/error.ts';
import { createMysqlStore } from '../../../src/store/mysql/store.ts';
import type { Heard, Store } from '../../../src/store/store.ts';
import { type MysqlSpec, parseStoreUrl } from '../../../src/store/url.ts';
import { type Gate, openGate } from '../../kit/databases/gate.ts';
import { startMariadb } from '../../kit/databases/mariadb.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI, ip, make, makeReady, one, row, SUBNET } from '../store.contract.ts';

const mariadb = await startMariadb();
const MOVE_PACKET = 'UPDATE `allocation`';
/** What a server may say of a statement. 1180: a COMMIT failed; 1317: the statement was killed; 3024: it took too
 *  long; 4031: the server closed the session. */
const ERRNOS = [1020, 1040, 1047, 1053, 1146, 1180, 1205, 1213, 1290, 1317, 1406, 1792, 1836, 3024, 4031];
const CALL_TIMEOUT_MS = 500;

interface Context {
  /** Through the gate. */
  store: Store;
  /** Straight to the server. */
  witness: Store;
  gate: Gate;
}
const errors = suite<Context>('store: MariaDB reports an error');
errors.before(async context => {
  await mariadb.create('errors');
  context.gate = await openGate(mariadb.port);
  const spec = parseStoreUrl(mariadb.url('errors')) as MysqlSpec;
  const { password } = mariadb;
  context.witness = createMysqlStore({ spec, password });
  await context.witness.migrate();
  await context.witness.add([row(10), row(11)]);
  for (const last of [10, 11]) await makeReady(context.witness, ip(last), ENI);
  context.store = createMysqlStore({
    spec: { ...spec, port: context.gate.port },
    password,
    callTimeoutMs: CALL_TIMEOUT_MS,
  });
});
errors.after(async ({ store, witness, gate }) => {
  await store.close();
  await witness.close();
  await gate.close();
  await mariadb.stop();
});

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

const SHAPES = [
  { name: 'one statement', statements: ['SET', 'UPDATE', 'SELECT'], commits: 1 },
  {
    name: 'transaction',
    statements: ['SET', 'START TRANSACTION', 'UPDATE', 'UPDATE', 'COMMIT', 'SELECT'],
    commits: 4,
  },
] as const;
type Shape = (typeof SHAPES)[number];

/** Both rows ready again. */
async function restore(witness: Store): Promise<void> {
  for (const last of [10, 11]) {
    const { status } = await one(witness, ip(last));
    if (status === 'allocated') await make(witness, ip(last), 'release');
    if (status === 'unassigning') await make(witness, ip(last), 'kept');
  }
}

interface Tried {
  readonly answer: string;
  /** How often the claimed row was written. */
  readonly writes: number;
}
/** Claims one address, and takes another off where a transaction is wanted, in one packet that `alter` changes;
 *  everything after it is refused with `then`, as long as the move lasts. Whatever the store answers, what it says was
 *  moved is what was moved. */
async function tryMove(context: Context, shape: Shape, alter: Alter, then: number | null): Promise<Tried> {
  const { store, witness, gate } = context;
  await restore(witness);
  const first = await one(witness, ip(10));
  const changes = [
    { row: first, move: 'claim', holder: 'web-1' } as const,
    ...(shape.name === 'transaction' ? [{ row: await one(witness, ip(11)), move: 'unassign' } as const] : []),
  ];
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
  const { rows } = await witness.get(SUBNET, [ip(10), ip(11)]);
  const made = rows.filter(one => one.status !== 'ready').map(one => one.ip);
  assert.equal(told, made, answer);
  return { answer, writes: (rows[0]?.generation ?? 0) - first.generation };
}

/** What the store says was moved, be it later. */
async function answerOf(move: Promise<Allocation[]>, learn: () => Promise<Heard>) {
  try {
    const rows = await move;
    return { told: rows.map(one => one.ip), answer: rows.length === 0 ? 'no' : 'made' };
  } catch (error) {
    assert.ok(isError(error, 'store-down', 'internal'), String(error));
    const { moved, unsettled } = await learn();
    assert.is(unsettled, 0);
    return { told: moved.map(({ row }) => row.ip), answer: error.code };
  }
}

for (const shape of SHAPES)
  for (const errno of ERRNOS) {
    for (const [step, statement] of shape.statements.entries())
      errors(
        `${errno} before ${statement} (${step}) of a ${shape.name}: the answer is the truth`,
        async context => {
          await tryMove(context, shape, before(step, errno), null);
        },
      );
    // Of a statement that commits itself a server reports these only when it has done nothing.
    if (shape.name === 'one statement' && [1205, 1146, 1406].includes(errno)) continue;
    errors(`${errno} although a ${shape.name} is committed: the answer is the truth`, async context => {
      await tryMove(context, shape, doneBut(shape.commits, errno), null);
    });
  }

for (const shape of SHAPES)
  for (const errno of [1205, 1213, 1047, 1290]) {
    const alters = shape.statements.map((_, step) => before(step, errno));
    if (errno !== 1205) alters.push(doneBut(shape.commits, errno));
    for (const [step, alter] of alters.entries())
      errors(`${errno} at ${step} of a ${shape.name}, then no quorum: it is told of later`, async context => {
        await tryMove(context, shape, alter, 1047);
      });
  }

for (const shape of SHAPES)
  errors(`a lock timeout in a ${shape.name} makes nobody's rows stale: it is tried again`, async context => {
    const waits = shape.statements.flatMap((name, step) => (name === 'UPDATE' ? step : []));
    for (const step of waits)
      assert.equal(await tryMove(context, shape, before(step, 1205), null), { answer: 'made', writes: 1 });
  });
errors.run();
