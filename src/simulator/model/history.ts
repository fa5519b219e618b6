/** Records by id, now and in the recent past, so that a read can return an old state. */
interface Version<V> {
  readonly at: number;
  /** Null: deleted. */
  readonly value: V | null;
}

/** `keptMs`: for how long past versions are kept, in milliseconds. */
export function createHistory<K extends string, V>(keptMs: number) {
  const versions = new Map<K, Version<V>[]>();
  const sortedKeys: K[] = [];

  /** Adds a version. `at` is raised to the time of the last version when it is earlier. */
  function set(key: K, value: V | null, at: number): void {
    const known = versions.get(key);
    if (known === undefined) {
      versions.set(key, [{ at, value }]);
      sortedKeys.splice(firstBehind(sortedKeys, key), 0, key);
      return;
    }
    known.push({ at: Math.max(at, known.at(-1)?.at ?? at), value });
    while ((known[1]?.at ?? Number.POSITIVE_INFINITY) <= at - keptMs) known.shift();
  }

  /** Returns the record as it was at `at`; null when it did not exist. */
  const get = (key: K, at = Number.POSITIVE_INFINITY): V | null =>
    versions.get(key)?.findLast(version => version.at <= at)?.value ?? null;

  /** The records as they were at `at`, in the order of their ids. The first one follows the id `after`. */
  function* values(at = Number.POSITIVE_INFINITY, after = ''): Generator<V> {
    for (let i = firstBehind(sortedKeys, after); i < sortedKeys.length; i++) {
      const value = get(sortedKeys[i] as K, at);
      if (value !== null) yield value;
    }
  }

  return { set, get, values };
}

function firstBehind(sorted: readonly string[], after: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? '') <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}
