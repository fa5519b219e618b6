// Goal: many calls share few commits and none can tell. Method: a commit that the test holds and lets go; then the
// whole contract of a store, on the memory store behind a group commit.
import { type Ipv4, numberOf } from '../../src/domain/address.ts';
import { type Allocation, type Change, moved } from '../../src/domain/allocation.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Observer } from '../../src/domain/observer.ts';
import { createGroupCommit, type GroupBounds } from '../../src/store/group-commit.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { CHANGES_MAX } from '../../src/store/store.ts';
import { ip, range, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';
import { contractByClock } from './store.contract.ts';

const ready = (n: number, generation = 0): Allocation => rowWith({ ip: ip(n), status: 'ready', generation });
const claim = (n: number, generation = 0): Change => ({ row: ready(n, generation), move: 'claim' });
const claims = (...numbers: number[]): Change[] => numbers.map(n => claim(n));
const lastOf = ({ ip: address }: { ip: Ipv4 }): number => numberOf(address) - numberOf(ip(0));

/** A commit that is under way until the test ends it. */
interface UnderWay {
  readonly rows: number[];
  /** All rows moved, but for these. */
  end(...stay: number[]): Promise<void>;
  fail(error: Error): Promise<void>;
}
/** Lets what is due be done: calls are gathered by one turn of the event loop. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
}

function grouped(bounds: Partial<GroupBounds> = {}) {
  const commits: UnderWay[] = [];
  const move = createGroupCommit(
    batch =>
      new Promise((resolve, reject) => {
        commits.push({
          rows: batch.map(change => lastOf(change.row)),
          async end(...stay) {
            const went = batch.filter(change => !stay.includes(lastOf(change.row)));
            // A database answers in an order of its own.
            resolve(
              went.toReversed().flatMap(change => moved(change.row as Allocation, change, 1, 'token') ?? []),
            );
            await settle();
          },
          async fail(error) {
            reject(error);
            await settle();
          },
        });
      }),
    { lanesMax: 1, ...bounds },
  );
  return { move, commits, batches: () => commits.map(commit => commit.rows.join(' ')).join(', ') };
}
const numbers = async (answer: Promise<Allocation[]>): Promise<number[]> => (await answer).map(lastOf);
const codeOf = (answer: Promise<unknown>): Promise<string> =>
  answer.then(
    () => 'answered',
    error => (isError(error, 'store-down') ? 'store-down' : (error as Error).message),
  );

const group = suite('group commit');

group('calls that arrive together: share a commit; each gets its own rows, in its own order', async () => {
  const { move, commits, batches } = grouped();
  const answers = [move(claims(3, 1)), move(claims(2)), move(claims(9, 7, 8))];
  await settle();
  assert.is(batches(), '3 1 2 9 7 8');
  await commits[0]?.end(1, 2);
  assert.equal(await Promise.all(answers.map(numbers)), [[3], [], [9, 7, 8]]);
});

group('a commit: is told with the moves that it made and its time, one that fails is not', async () => {
  const told: [rows: number, ms: number][] = [];
  let now = 0;
  const observer = {
    committed: (rows, ms) => void told.push([rows.length, ms]),
  } as Pick<Observer, 'committed'> as Observer;
  const { move, commits } = grouped({ observer, clock: () => now });
  const answers = [move(claims(3, 1)), move(claims(2))];
  await settle();
  now += 5;
  await commits[0]?.end(1);
  await Promise.all(answers);
  const failing = codeOf(move(claims(4)));
  await settle();
  await commits[1]?.fail(new Error('no'));
  assert.is(await failing, 'no');
  assert.equal(told, [[2, 5]]);
});

group('a call alone: waits for nobody', async () => {
  const { move, batches } = grouped();
  void move(claims(1));
  await new Promise(setImmediate);
  assert.is(batches(), '1');
});

group('a call while all lanes are taken: joins the next commit', async () => {
  const { move, commits, batches } = grouped({ lanesMax: 2 });
  for (const n of [1, 2]) {
    void move(claims(n));
    await settle();
  }
  for (const n of [3, 4, 5]) {
    void move(claims(n));
    await settle();
  }
  assert.is(batches(), '1, 2');
  await commits[1]?.end();
  assert.is(batches(), '1, 2, 3 4 5');
});

const of = (eni: string, ...numbers: number[]): Change[] =>
  numbers.map(n => ({ row: { ...ready(n), iface: eni as EniId }, move: 'claim' }));

group('ENIs take turns: 2,000 claims of one are not before the one of another', async () => {
  const { move, commits } = grouped();
  const many = range(2000, 1).map(n => move(of('eni-many', n)));
  await settle();
  const one = move(of('eni-one', 5000));
  await commits[0]?.end();
  assert.ok(commits[1]?.rows.includes(5000));
  assert.is(commits[1]?.rows.length, CHANGES_MAX);
  for (let i = 1; i < commits.length; i++) await commits[i]?.end();
  assert.equal(await numbers(one), [5000]);
  assert.equal((await Promise.all(many.map(numbers))).flat(), range(2000, 1));
});

group('calls that are tried alone: take turns with those of other ENIs too', async () => {
  const { move, commits, batches } = grouped();
  const many = range(4, 1).map(n => codeOf(move(of('eni-many', n))));
  await settle();
  await commits[0]?.fail(new Error('bad'));
  void move(of('eni-one', 9));
  await settle();
  await commits[1]?.fail(new Error('bad'));
  await settle();
  assert.is(batches(), '1 2 3 4, 1, 9');
  for (let i = 2; i < commits.length; i++) await commits[i]?.end();
  assert.equal(await Promise.all(many), ['bad', 'answered', 'answered', 'answered']);
});

group('turns change nothing in the order of the calls of one row', async () => {
  const { move, commits, batches } = grouped({ changesMax: 2 });
  const [first, second] = [of('eni-many', 1, 2, 3, 4), of('eni-one', 4)];
  for (const one of [...first, ...second]) void move([one]);
  await settle();
  while (commits.at(-1)?.rows.length) {
    const { length } = commits;
    await commits.at(-1)?.end();
    if (commits.length === length) break;
  }
  assert.is(batches(), '1 2, 3 4, 4');
});

group('a commit: has a bound, and no call is split', async () => {
  const { move, commits, batches } = grouped({ changesMax: 4 });
  const answers = [claims(1, 2, 3), claims(4, 5), claims(6)].map(move);
  await settle();
  assert.is(batches(), '1 2 3 6');
  await commits[0]?.end();
  await commits[1]?.end();
  assert.is(batches(), '1 2 3 6, 4 5');
  assert.equal(await Promise.all(answers.map(numbers)), [[1, 2, 3], [4, 5], [6]]);
});

group('a call: is refused when too large, and costs nothing when it asks nothing', async () => {
  const { move, batches } = grouped();
  const many = claims(...range(CHANGES_MAX + 1));
  assert.match(await codeOf(move(many)), /at most 500/);
  assert.equal(await move([]), []);
  assert.equal(await move([{ row: ready(1), move: 'release' }]), [], 'it does not start there');
  await settle();
  assert.is(batches(), '');
});

group('changes of one row: are made one after the other, in no commit together', async () => {
  const { move, commits, batches } = grouped({ lanesMax: 3 });
  const answers = [[claim(1)], [claim(1), claim(2)], [claim(2)], [claim(3)]].map(move);
  await settle();
  // The third shares no row with the first, but would overtake the second.
  assert.is(batches(), '1 3');
  await commits[0]?.end();
  assert.is(batches(), '1 3, 1 2');
  await commits[1]?.end(1);
  await commits[2]?.end(2);
  assert.is(commits.at(-1)?.rows.join(), '2');
  assert.equal(await Promise.all(answers.map(numbers)), [[1], [2], [], [3]]);
});

group('a row on its way: holds up nobody else', async () => {
  const { move, batches } = grouped({ lanesMax: 2 });
  void move(claims(1));
  await settle();
  void move(claims(1));
  void move(claims(2));
  await settle();
  assert.is(batches(), '1, 2');
});

group('a store that is down: fails the batch and all who wait, and is asked again by the next', async () => {
  const { move, commits, batches } = grouped();
  const answers = [move(claims(1)), move(claims(2))].map(codeOf);
  await settle();
  const waiting = codeOf(move(claims(3)));
  await commits[0]?.fail(new IpamError('store-down', 'gone'));
  assert.equal(await Promise.all([...answers, waiting]), ['store-down', 'store-down', 'store-down']);
  const next = move(claims(1));
  await settle();
  await commits[1]?.end();
  assert.is(batches(), '1 2, 1');
  assert.equal(await numbers(next), [1]);
});

group('any other error: is that of one member, so each is tried alone', async () => {
  const { move, commits, batches } = grouped();
  const answers = [claims(1), claims(2, 3), claims(4)].map(move);
  const bad = codeOf(answers[1] as Promise<unknown>);
  await settle();
  void move(claims(5));
  await commits[0]?.fail(new Error('a bug'));
  await commits[1]?.end();
  await commits[2]?.fail(new Error('a bug'));
  await commits[3]?.end();
  await commits[4]?.end();
  assert.is(batches(), '1 2 3 4, 1, 2 3, 4, 5');
  assert.is(await bad, 'a bug');
  assert.equal(await numbers(answers[0] as Promise<Allocation[]>), [1]);
  assert.equal(await numbers(answers[2] as Promise<Allocation[]>), [4]);
});

group('callers: so many may wait, and not one more', async () => {
  const { move, commits } = grouped({ waitersMax: 2 });
  const first = move(claims(1));
  await settle();
  const waiting = [move(claims(2)), move(claims(3))];
  assert.is(await codeOf(move(claims(4))), 'store-down');
  await commits[0]?.end();
  await commits[1]?.end();
  assert.equal(await Promise.all([first, ...waiting].map(numbers)), [[1], [2], [3]]);
});
group.run();

for (const lanesMax of [1, 3])
  contractByClock(`memory by group commit, ${lanesMax} at a time`, clock => {
    const store = createMemoryStore({ clock });
    return { ...store, move: createGroupCommit(store.move, { lanesMax }) };
  });
