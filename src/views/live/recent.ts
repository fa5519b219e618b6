/** What this server has seen in its last 15 minutes: calls of Docker and to EC2, commits, warm starts, and when
 *  subnets were compared with EC2. */
import { methodOf, type Observer, type Result } from '../../domain/observer.ts';

const MINUTE_MS = 60_000;
const MINUTES = 15;
/** Durations that are kept of each kind of call. */
const DURATIONS_MAX = 500;

/** What is counted. `add` costs a few assignments. */
interface Counter {
  add(count?: number): void;
  sum(): number;
}

/** Counts by the minute, in a ring. */
function createCounter(clock: () => number): Counter {
  const counts = new Array<number>(MINUTES).fill(0);
  const minutes = new Array<number>(MINUTES).fill(Number.NaN);
  const minute = (): number => Math.floor(clock() / MINUTE_MS);
  return {
    add(count = 1) {
      const now = minute();
      const at = now % MINUTES;
      counts[at] = (minutes[at] === now ? (counts[at] ?? 0) : 0) + count;
      minutes[at] = now;
    },
    sum() {
      const oldest = minute() - MINUTES;
      return counts.reduce((sum, count, i) => sum + ((minutes[i] ?? Number.NaN) > oldest ? count : 0), 0);
    },
  };
}

interface TookSummary {
  readonly count: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

function createDurations(clock: () => number) {
  const counter = createCounter(clock);
  const kept: { readonly ms: number; readonly at: number }[] = [];
  let next = 0;
  return {
    add(ms: number): void {
      counter.add();
      kept[next] = { ms, at: clock() };
      next = (next + 1) % DURATIONS_MAX;
    },
    took(): TookSummary {
      const since = clock() - MINUTES * MINUTE_MS;
      const sorted = kept
        .filter(({ at }) => at >= since)
        .map(({ ms }) => ms)
        .sort((a, b) => a - b);
      const at = (part: number) => sorted[Math.ceil(sorted.length * part) - 1] ?? null;
      return { count: counter.sum(), p50Ms: at(0.5), p99Ms: at(0.99) };
    },
  };
}

export interface Recent {
  readonly observer: Partial<Observer>;
  ec2(): {
    readonly last: Result | null;
    readonly actions: readonly {
      action: string;
      tokens: number | null;
      took: TookSummary;
      throttled: number;
      failed: number;
    }[];
  };
  commits(): { readonly took: TookSummary; readonly movesPerCommit: number | null };
  requests(): readonly { method: string; took: TookSummary; failed: number }[];
  warm(): { readonly hits: number; readonly misses: number; readonly earlyReuses: number };
  /** How long ago this server compared the subnet with EC2, in milliseconds; null: it has not. */
  reconciledAgoMs(subnet: string): number | null;
}

/** `clock`: milliseconds, monotonic. */
export function createRecent(clock: () => number): Recent {
  const counter = () => createCounter(clock);
  const [commits, moves] = [createDurations(clock), counter()];
  const [hits, misses, earlyReuses] = [counter(), counter(), counter()];
  const byAction = new Map<string, ReturnType<typeof kindOfCall>>();
  const byMethod = new Map<string, ReturnType<typeof kindOfCall>>();
  const tokens = new Map<string, () => number>();
  const reconciled = new Map<string, number>();
  let last: Result | null = null;

  const kindOfCall = () => ({ took: createDurations(clock), throttled: counter(), failed: counter() });
  const kindIn = (kinds: Map<string, ReturnType<typeof kindOfCall>>, name: string) => {
    const kind = kinds.get(name) ?? kindOfCall();
    kinds.set(name, kind);
    return kind;
  };

  return {
    observer: {
      answered(path, result, ms) {
        const kind = kindIn(byMethod, methodOf(path));
        kind.took.add(ms);
        if (result !== 'ok') kind.failed.add();
      },
      ec2Called(action, result, ms) {
        last = result;
        const kind = kindIn(byAction, action);
        kind.took.add(ms);
        if (result === 'ec2-throttled') kind.throttled.add();
        else if (result !== 'ok') kind.failed.add();
      },
      tokens: (action, left) => void tokens.set(action, left),
      warm: what => (what === 'hit' ? hits : misses).add(),
      reusedEarly: () => earlyReuses.add(),
      committed(rows, ms) {
        commits.add(ms);
        moves.add(rows.length);
      },
      reconciled: subnet => void reconciled.set(subnet, clock()),
    },
    ec2() {
      const names = [...new Set([...tokens.keys(), ...byAction.keys()])].sort();
      const actions = names.map(action => {
        const { took, throttled, failed } = kindIn(byAction, action);
        const left = tokens.get(action)?.() ?? null;
        const tokensLeft = left === null ? null : Math.floor(left);
        return {
          ...{ action, tokens: tokensLeft, took: took.took() },
          ...{ throttled: throttled.sum(), failed: failed.sum() },
        };
      });
      return { last, actions };
    },
    commits() {
      const took = commits.took();
      return { took, movesPerCommit: took.count === 0 ? null : moves.sum() / took.count };
    },
    requests: () =>
      [...byMethod]
        .map(([method, { took, failed }]) => ({ method, took: took.took(), failed: failed.sum() }))
        .sort((a, b) => (a.method < b.method ? -1 : 1)),
    warm: () => ({ hits: hits.sum(), misses: misses.sum(), earlyReuses: earlyReuses.sum() }),
    reconciledAgoMs(subnet) {
      const at = reconciled.get(subnet);
      return at === undefined ? null : clock() - at;
    },
  };
}
