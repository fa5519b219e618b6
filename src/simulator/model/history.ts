interface Version<V> {
  readonly at: number;
  /** Null: it was deleted then. */
  readonly value: V | null;
}

/** Records by id, as they are and as they were up to `keptMs` ago, so that a read can be late. */
export class History<K extends string, V> {
  readonly #keptMs: number;
  readonly #versions = new Map<K, Version<V>[]>();
  readonly #sortedKeys: K[] = [];

  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  /** What comes after, counts as later: `at` is moved up to the last change's. */
  set(key: K, value: V | null, at: number): void {
    const versions = this.#versions.get(key);
    if (versions === undefined) {
      this.#versions.set(key, [{ at, value }]);
      this.#sortedKeys.splice(firstBehind(this.#sortedKeys, key), 0, key);
      return;
    }
    versions.push({ at: Math.max(at, versions.at(-1)?.at ?? at), value });
    while ((versions[1]?.at ?? Number.POSITIVE_INFINITY) <= at - this.#keptMs) versions.shift();
  }

  /** The record as it was at `at`; null when it was not there. */
  get(key: K, at = Number.POSITIVE_INFINITY): V | null {
    return this.#versions.get(key)?.findLast(version => version.at <= at)?.value ?? null;
  }

  /** The records as they were at `at`, in the order of their ids, from behind the id `after`. */
  *values(at = Number.POSITIVE_INFINITY, after = ''): Generator<V> {
    for (let i = firstBehind(this.#sortedKeys, after); i < this.#sortedKeys.length; i++) {
      const value = this.get(this.#sortedKeys[i] as K, at);
      if (value !== null) yield value;
    }
  }
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
