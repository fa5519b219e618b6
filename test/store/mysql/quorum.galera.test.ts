// Goal: a node that loses quorum at any step of a move leaves nobody in error about what the cluster has committed.
// Method: a node of three is cut off from the others while a move waits at one step of its packet, and at random
// moments of a load; once it is back, what was told of is what the other nodes have.
import { randomUUID } from 'node:crypto';
import process from 'node:process';
import { type Allocation, type Change, moveToGiveUp } from '../../../src/domain/allocation.ts';
import { isError } from '../../../src/domain/error.ts';
import type { Store } from '../../../src/store/store.ts';
import { type Galera, startGalera } from '../../kit/databases/galera.ts';
import { type Gate, openGate } from '../../kit/databases/gate.ts';
import { changesOf, isTold, MOVE_PACKET, SHAPES, type Shape } from '../../kit/databases/gated.ts';
import { newRows, putOn, rowsOf } from '../../kit/ledger.ts';
import { byLength } from '../../kit/length.ts';
import { ENI, range } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { pause, until } from '../../kit/wait.ts';

const DATABASE = 'quorum';
/** Long enough for the node to notice that it is alone. */
const PAUSE_S = 3;
/** Longer than the pause, so that what the node says is heard. */
const CALL_TIMEOUT_MS = 5_500;
const ROWS = range(24, 10);
const ROUNDS = byLength({ full: 3, short: 1, leftOut: '2 of 3 losses of quorum at random moments' });
const RANDOM_ROUNDS = Number(process.env.QUORUM_ROUNDS ?? ROUNDS);
const OFFSET_MAX_MS = 60;

const quorum = suite('a move on a Galera node that loses quorum');
let galera: Galera;
let gate: Gate;
let store: Store;
let witness: Store;

quorum.before(async () => {
  // Its nodes are cut off and started anew, which a cluster of others would not get over.
  galera = await startGalera();
  await galera.create(DATABASE);
  gate = await openGate(Number(new URL(galera.url(0, DATABASE)).port));
  store = galera.store(0, DATABASE, { callTimeoutMs: CALL_TIMEOUT_MS }, { port: gate.port });
  witness = galera.store(1, DATABASE);
  await witness.migrate();
  await witness.add(newRows(...ROWS));
  await putOn(witness, await rowsThere(), ENI);
  await noticeSoon();
});
quorum.after(async () => {
  await store?.close();
  await witness?.close();
  await gate?.close();
  await galera?.stop();
});

/** The node notices within a second that the others are away. */
const noticeSoon = () =>
  galera.run(0, DATABASE, "SET GLOBAL wsrep_provider_options = 'evs.suspect_timeout=PT1S'");
const isolate = (on: boolean) =>
  galera.run(0, DATABASE, `SET GLOBAL wsrep_provider_options = 'gmcast.isolate=${on ? 1 : 0}'`);
const isBack = async () => {
  const [ready] = await galera.run(0, DATABASE, "SHOW STATUS LIKE 'wsrep_ready'").catch(() => []);
  const [size] = await galera.run(1, DATABASE, "SHOW STATUS LIKE 'wsrep_cluster_size'").catch(() => []);
  return ready?.Value === 'ON' && size?.Value === '3';
};
/** Now and then the nodes do not form a group again, whatever the time: then the node is started anew. */
async function rejoined() {
  try {
    await until('the node is back', isBack);
  } catch {
    console.log('  quorum: the node did not join again and is started anew');
    await galera.kill9(0);
    await galera.rejoin(0);
    await until('the node that was started anew is back', isBack);
    await noticeSoon();
  }
}

/** Begins a move that may fail before anybody waits for it. */
function begun(changes: readonly Change[]): Promise<Allocation[]> {
  const move = store.move(changes);
  move.catch(() => {});
  return move;
}

/** All rows as the other nodes have them. */
const rowsThere = (): Promise<readonly Allocation[]> => rowsOf(witness, ROWS);

/** The moves that the store says it made, with the token of each, while the node is cut off and after. */
async function toldOf(moves: readonly Promise<Allocation[]>[], answers: string[]) {
  const told = new Map<string, string>();
  const hear = (rows: readonly Allocation[]) => {
    for (const one of rows) told.set(one.ip, one.token ?? '');
  };
  for (const answer of await Promise.allSettled(moves)) {
    if (answer.status === 'fulfilled') hear(answer.value);
    else if (!isError(answer.reason, 'store-down')) throw answer.reason;
    answers.push(answer.status === 'rejected' ? 'down' : answer.value.length > 0 ? 'made' : 'no');
  }
  await isolate(false);
  await rejoined();
  await until('all is told of', async () => {
    const heard = await store.lateOutcomes().catch(() => null);
    hear(heard?.moved.map(({ row: moved }) => moved) ?? []);
    return heard?.unsettled === 0;
  });
  return told;
}

/** What the cluster has moved that nobody was told of, and the other way round. Then all is as before. */
async function judge(before: readonly Allocation[], told: ReadonlyMap<string, string>): Promise<string[]> {
  const wrongs: string[] = [];
  const after = await rowsThere();
  for (const [i, one] of after.entries()) {
    const isMoved = one.status !== before[i]?.status;
    const isTold = told.get(one.ip) === one.token;
    if (isMoved !== isTold)
      wrongs.push(`${one.ip}: ${isMoved ? 'moved' : 'not moved'}, ${isTold ? '' : 'not '}told`);
  }
  const back = after.flatMap((row): Change[] => {
    if (row.status === 'unassigning') return [{ row, move: 'kept' }];
    const move = moveToGiveUp(row);
    return row.status === 'allocated' && move !== null ? [{ row, move }] : [];
  });
  assert.is((await witness.move(back)).length, back.length);
  return wrongs;
}

const claimOf = (row: Allocation | undefined): Change => ({
  row: row as Allocation,
  move: 'claim',
  holder: 'web-1',
});
for (const shape of byLength<readonly Shape[]>({
  full: SHAPES,
  short: SHAPES.slice(2),
  leftOut: 'a loss of quorum in a claim, and in a claim beside another move',
})) {
  const { name, steps, commits } = shape;
  for (const [step, statement] of byLength({
    full: [...steps.entries()],
    // On both sides of the commit.
    short: [...steps.entries()].slice(commits, commits + 2),
    leftOut: `a loss of quorum before the first ${commits} statements of a ${name}`,
  }))
    quorum(`before ${statement} (${step}) of a ${name}: what was committed is told of later`, async () => {
      if (name === 'release') await witness.move([claimOf((await rowsThere())[0])]);
      const before = await rowsThere();
      const [first, second] = before as [Allocation, Allocation];
      const call = randomUUID();
      const changes = changesOf(shape, first, second, call);
      let packet: readonly string[] = [];
      gate.rewrite(sql => {
        if (!sql.includes(MOVE_PACKET)) return sql;
        gate.rewrite(null);
        packet = sql.split('; ');
        return packet.toSpliced(step, 0, `DO SLEEP(${PAUSE_S})`).join('; ');
      });
      const move = begun(changes);
      await until('the packet is sent', () => packet.length > 0);
      assert.is(packet.length, steps.length, packet.join('; '));
      for (const [i, sql] of packet.entries()) assert.ok(sql.startsWith(steps[i] ?? ''), sql);
      if (step > commits)
        await until('it is committed', async () => (await rowsThere())[0]?.status !== first.status);
      await isolate(true);
      const answers: string[] = [];
      const told = await toldOf([move], answers);
      console.log(
        `  quorum: lost before ${statement} (${step}) of a ${name}: ${answers}, ${told.size} told of`,
      );
      // Each time the node was lost before its answer; what was committed by then is told of later.
      assert.equal(answers, ['down']);
      assert.is(told.size, step > commits ? changes.length : 0);
      if (name === 'release')
        assert.is(await isTold(witness, first, call), step > commits, 'the history says the same');
      assert.equal(await judge(before, told), []);
    });
}

quorum(`at ${RANDOM_ROUNDS} random moments of a load: what was committed is told of later`, async () => {
  const tally = new Map<string, number>();
  let changed = 0;
  for (let round = 0; round < RANDOM_ROUNDS; round++) {
    const before = await rowsThere();
    const cut = pause(Math.random() * OFFSET_MAX_MS).then(() => isolate(true));
    cut.catch(() => {}); // waited for below
    const moves: Promise<Allocation[]>[] = [];
    for (const [i, row] of before.entries()) {
      moves.push(begun([i % 6 === 5 ? { row, move: 'unassign' } : claimOf(row)]));
      await pause((2 * OFFSET_MAX_MS) / before.length);
    }
    await cut;
    const answers: string[] = [];
    const told = await toldOf(moves, answers);
    for (const answer of answers) tally.set(answer, (tally.get(answer) ?? 0) + 1);
    changed += told.size;
    assert.equal(await judge(before, told), [], `round ${round}`);
  }
  console.log(`  quorum: ${JSON.stringify(Object.fromEntries(tally))}, ${changed} told of`);
  assert.ok(changed > 0 && (tally.get('down') ?? 0) > 0, 'no round was cut in the middle of its moves');
});
quorum.run();
