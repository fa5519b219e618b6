/** What the answers of a driver say of who holds what, whatever their order. */

interface Holding {
  readonly eni: string;
  /** The id of the request. */
  readonly id: string | null;
  /** A release may have ended it. */
  isUnsure: boolean;
}

/** Of one call, from when it was sent to its answer. */
interface Sent {
  readonly at: number;
}
interface SentRelease extends Sent {
  readonly eni: string;
  readonly ip: string;
  /** A copy of an older release ends nothing. */
  readonly isPlain: boolean;
  readonly target: Holding | undefined;
}

export class Model {
  readonly #holdings = new Map<string, Holding>();
  /** By ENI and address: the releases under way, and when the last one ended. */
  readonly #releases = new Map<string, { pending: number; endedAt: number }>();
  #now = 0;

  begin = (): Sent => ({ at: ++this.#now });

  /** Throws when somebody else has the address. */
  given({ at }: Sent, eni: string, ip: string, id: string | null): void {
    const before = this.#holdings.get(ip);
    const { pending, endedAt } = this.#releasesOf(eni, ip);
    const isRepeated = before !== undefined && before.id === id && id !== null && before.eni === eni;
    if (before?.isUnsure === false && this.#releasesOf(before.eni, ip).pending === 0 && !isRepeated)
      throw new Error(`${ip} was given on ${eni} while it was held on ${before.eni}`);
    const isUnsure = pending > 0 || endedAt > at || (isRepeated && before.isUnsure);
    this.#holdings.set(ip, { eni, id, isUnsure });
  }

  releasing(eni: string, ip: string, isPlain: boolean): SentRelease {
    this.#releasesOf(eni, ip).pending++;
    return { at: ++this.#now, eni, ip, isPlain, target: this.#holdings.get(ip) };
  }

  released({ eni, ip, isPlain, target }: SentRelease, isDone: boolean): void {
    const releases = this.#releasesOf(eni, ip);
    releases.pending--;
    if (!isDone) return;
    releases.endedAt = ++this.#now; // what was given meanwhile may be told later
    const current = this.#holdings.get(ip);
    if (current?.eni !== eni) return;
    if (isPlain && current === target) this.#holdings.delete(ip);
    else current.isUnsure = true;
  }

  /** An address that is held, and its ENI. */
  any(below: (bound: number) => number): readonly [ip: string, eni: string] | undefined {
    const all = [...this.#holdings];
    const [ip, holding] = all[below(all.length)] ?? [];
    return ip === undefined || holding === undefined ? undefined : [ip, holding.eni];
  }

  /** What is wrong with these held addresses, by ENI. No call is under way. */
  complaints(held: ReadonlyMap<string, string | null>): string[] {
    const lost = [...this.#holdings].filter(([ip, one]) => !one.isUnsure && held.get(ip) !== one.eni);
    const tooMany = [...held].filter(([ip, eni]) => this.#holdings.get(ip)?.eni !== eni);
    return [
      ...lost.map(([ip, { eni }]) => `${ip} was given on ${eni}, and is held on ${held.get(ip) ?? 'none'}`),
      ...tooMany.map(([ip, eni]) => `${ip} is held on ${eni}, and nobody was given it`),
    ];
  }

  #releasesOf(eni: string, ip: string) {
    const name = `${eni} ${ip}`;
    const known = this.#releases.get(name) ?? { pending: 0, endedAt: 0 };
    this.#releases.set(name, known);
    return known;
  }
}
