// Goal: somebody else's lock keeps back the calls that name its row, and nobody else. Method: a commit that hangs on
// rows that the test locks and then fails as a database does, on a clock that the test moves.
import { numberOf } from '../../src/domain/address.ts';
import type { Allocation, Change } from '../../src/domain/allocation.ts';
import { IpamError } from '../../src/domain/error.ts';
import { BatchError, createGroupCommit, keyOf, LockedError } from '../../src/store/group-commit.ts';
import { LOCKED_MAX_MS } from '../../src/store/lock-wait.ts';
import { Clock } from '../kit/clock.ts';
import { ip, range, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

/** As a database waits for a lock. */
const LOCK_WAIT_MS = 1_000;
const COMMIT_MS = 2;

const ready = (n: number): Allocation => rowWith({ ip: ip(n), status: 'ready', generation: 0 });
const claims = (...numbers: number[]): Change[] => numbers.map(n => ({ row: ready(n), move: 'claim' }));
const numberIn = ({ row }: Change): number => numberOf(row.ip) - numberOf(ip(0));

const resultsOf = async (calls: readonly (Promise<Ended> | undefined)[]) =>
  (await Promise.all(calls)).map(ended => ended?.result);

/** What became of a call, and after how long. */
interface Ended {
  readonly result: string;
  readonly tookMs: number;
}

class Bench {
  readonly locked = new Set<number>();
  /** Nothing says which rows are locked, as with an old server. */
  cannotTell = false;
  /** Locks of which nothing is seen on the rows, as those of gaps in an index. */
  readonly unseen = new Set<number>();
  readonly batches: number[][] = [];
  readonly clock = new Clock();
  readonly move: ReturnType<typeof createGroupCommit>;

  constructor(commit = (batch: readonly Change[]) => this.#commit(batch)) {
    this.move = createGroupCommit(commit, {
      lanesMax: 2,
      clock: () => this.clock.now,
      later: (work, ms) => this.#later(work, ms),
      locked: async changes => {
        if (this.cannotTell) throw new Error('no such syntax');
        const locked = changes.filter(change => this.locked.has(numberIn(change)));
        return new Set(locked.map(({ row }) => keyOf(row)));
      },
    });
  }

  #later(work: () => void, ms: number): () => void {
    let isOff = false;
    this.clock.at(this.clock.now + ms, () => {
      if (!isOff) work();
    });
    return () => {
      isOff = true;
    };
  }

  async #commit(batch: readonly Change[]): Promise<Allocation[]> {
    this.batches.push(batch.map(numberIn));
    const isHeld = () =>
      batch.some(change => this.locked.has(numberIn(change)) || this.unseen.has(numberIn(change)));
    const until = this.clock.now + LOCK_WAIT_MS;
    while (isHeld()) {
      if (this.clock.now >= until)
        throw new LockedError(() => new IpamError('store-down', 'a row is locked'));
      await this.clock.wait(50);
    }
    await this.clock.wait(COMMIT_MS);
    return batch.map(change => change.row as Allocation);
  }

  async call(...numbers: number[]): Promise<Ended> {
    const startedAt = this.clock.now;
    const result = await this.move(claims(...numbers)).then(
      rows => (rows.length === numbers.length ? 'made' : 'other'),
      error => (error as Error).message,
    );
    return { result, tookMs: this.clock.now - startedAt };
  }
}

const locks = suite("group commit and somebody else's locks");

for (const count of [1, 2, 10])
  locks(`${count} locked: others go on; what names them ends in its bound or when free`, async () => {
    const bench = new Bench();
    for (const n of range(count)) bench.locked.add(n);
    const guilty: Promise<Ended>[] = [];
    const strangers: Promise<Ended>[] = [];
    for (let round = 0; round < 40; round++) {
      for (const n of range(count)) guilty.push(bench.call(n));
      for (let n = 100; n < 300; n += 2) strangers.push(bench.call(n, n + 1));
      await bench.clock.advance(100);
    }
    await bench.clock.advance(3_000);
    for (const n of range(count)) guilty.push(bench.call(n));
    bench.locked.clear();
    await bench.clock.advance(2 * LOCKED_MAX_MS);
    for (const { result, tookMs } of await Promise.all(strangers)) {
      assert.is(result, 'made');
      assert.ok(tookMs <= 1_500, `a stranger took ${tookMs} ms`);
    }
    const ends = await Promise.all(guilty);
    for (const { tookMs } of ends) assert.ok(tookMs <= LOCKED_MAX_MS + 2 * LOCK_WAIT_MS, `${tookMs} ms`);
    const results = ends.map(one => one.result);
    assert.equal(new Set(results), new Set(['a row is locked', 'made']));
    for (const result of results.slice(-count)) assert.is(result, 'made');
  });

locks('what shares a commit with a locked row: waits for it once', async () => {
  const bench = new Bench();
  bench.locked.add(7);
  const calls = [bench.call(1, 2), bench.call(7, 8), bench.call(3)];
  await bench.clock.advance(LOCK_WAIT_MS + 100);
  const next = bench.call(7);
  const other = bench.call(8, 9); // may overtake
  await bench.clock.advance(50);
  assert.equal(await other, { result: 'made', tookMs: COMMIT_MS });
  assert.equal(bench.batches, [
    [1, 2, 7, 8, 3],
    [1, 2, 3],
    [8, 9],
  ]);
  bench.locked.clear();
  await bench.clock.advance(300);
  assert.equal(await resultsOf([...calls, next]), ['made', 'made', 'made', 'made']);
});

locks('commits that hang: leave their lanes to others', async () => {
  const bench = new Bench();
  for (const n of [1, 2]) bench.unseen.add(n);
  void bench.call(1);
  await bench.clock.advance(5);
  void bench.call(2);
  await bench.clock.advance(5);
  const stranger = bench.call(3);
  await bench.clock.advance(LOCK_WAIT_MS - 100);
  assert.ok((await stranger).tookMs < 300);
});

for (const way of ['nothing says which', 'it is seen on none of them'] as const)
  locks(`a lock, and ${way}: each call is tried alone`, async () => {
    const bench = new Bench();
    bench.cannotTell = way === 'nothing says which';
    bench.unseen.add(2);
    const calls = [bench.call(1), bench.call(2), bench.call(3), bench.call(4)];
    await bench.clock.advance(2 * LOCK_WAIT_MS + 300);
    const [one, , three, four] = calls;
    assert.equal(await resultsOf([one, three, four]), ['made', 'made', 'made']);
    await bench.clock.advance(LOCKED_MAX_MS + 2 * LOCK_WAIT_MS);
    assert.is((await calls[1])?.result, 'a row is locked');
  });

locks('a batch of which nothing was learned: fails its own calls only', async () => {
  const bench = new Bench(async batch => {
    await bench.clock.wait(COMMIT_MS);
    if (batch.some(change => numberIn(change) === 1)) throw new BatchError(new Error('not known'));
    return batch.map(change => change.row as Allocation);
  });
  const calls = [bench.call(1)];
  await bench.clock.advance(1);
  calls.push(bench.call(2), bench.call(1));
  await bench.clock.advance(20);
  assert.equal(await resultsOf(calls), ['not known', 'made', 'not known']);
});
locks.run();
