/** The reads of the ledger in memory that people are shown something by. */
import { type AddressRange, numberOf } from '../domain/address.ts';
import { type Allocation, containerIdOf } from '../domain/allocation.ts';
import { isCalled } from '../domain/container.ts';
import type { LedgerSighting } from '../domain/sighting.ts';
import { mayBeUnanswered } from '../domain/suspects.ts';
import { type BlockCount, blockOf, LATELY_MS, type Looks, type RecentEnd, withoutDoubles } from './looks.ts';
import type { LedgerEni } from './store.ts';

interface Tables {
  /** In the order of their addresses. */
  rows(): Allocation[];
  enis(): LedgerEni[];
  ended(): readonly RecentEnd[];
  sightings(): LedgerSighting[];
  clock(): number;
}

export function createMemoryLooks({ rows, enis, ended, sightings, clock }: Tables): Looks {
  const reading = <T>(found: readonly T[]) => ({ now: clock(), rows: found });
  const inPart = (subnet: string, { first, last }: AddressRange): Allocation[] =>
    rows().filter(row => row.subnet === subnet && first <= numberOf(row.ip) && numberOf(row.ip) <= last);
  const held = (): Allocation[] => rows().filter(row => row.status === 'allocated' && row.iface !== null);

  return {
    partsOf: range => [range],
    async blocks(subnet, range) {
      const groups = Map.groupBy(inPart(subnet, range), row => `${blockOf(numberOf(row.ip))} ${row.status}`);
      return [...groups.values()].flatMap((group): BlockCount[] => {
        const [one] = group;
        if (one === undefined) return [];
        const count = (is: (row: Allocation) => boolean) => group.filter(is).length;
        return [
          {
            ...{ first: blockOf(numberOf(one.ip)), status: one.status, count: group.length },
            reservedByOperators: count(row => row.reservedFor !== null),
            missing: count(row => row.missingSince !== null),
            begun: count(row => row.status === 'allocated' && row.movedAt > clock() - LATELY_MS),
          },
        ];
      });
    },
    async inRange(subnet, range) {
      return reading(inPart(subnet, range));
    },
    async movedWithin(subnet, range, withinMs, limit) {
      const since = clock() - withinMs;
      const isLate = (at: number | null) => at !== null && at >= since;
      const late = inPart(subnet, range).filter(
        row =>
          row.generation > 0 && (isLate(row.movedAt) || isLate(row.missingSince) || isLate(row.placedAt)),
      );
      return reading(late.slice(0, limit));
    },
    async recentHistory(withinMs, limit) {
      const recent = ended().filter(one => one.at >= clock() - withinMs);
      return reading(
        recent
          .slice(-limit)
          .map(({ subnet, ip, generation, at, since }) => ({ subnet, ip, generation, at, since })),
      );
    },
    async doubtful(servers, limit) {
      const named = Map.groupBy(
        held().filter(row => row.holder !== null),
        row => `${row.iface} ${row.holder}`,
      );
      const doubles = [...named.values()].filter(group => group.length > 1).flat();
      const by = held().filter(row =>
        servers.some(({ id, seenAt }) => mayBeUnanswered(row, { id, seenAt, stoppedAt: null })),
      );
      const missing = held().filter(row => row.missingSince !== null);
      return reading(withoutDoubles([missing, by, doubles].flatMap(kind => kind.slice(0, limit))));
    },
    async lowPools(low, limit) {
      const used = enis().filter(eni => eni.ours && eni.releasedAt === null && eni.instance !== null);
      const pools = used.map(({ id: eni }) => {
        const own = rows().filter(row => row.iface === eni && !row.primary);
        const ready = own.filter(row => row.status === 'ready').length;
        return { eni, ready, movedAt: Math.max(0, ...own.map(row => row.movedAt)) };
      });
      const few = pools.filter(({ ready }) => ready < low).sort((a, b) => (a.eni < b.eni ? -1 : 1));
      return reading(few.slice(0, limit));
    },
    async heldBy(text, limit) {
      const found = held().filter(
        row => row.holder?.includes(text) || isCalled(text, null, containerIdOf(row)),
      );
      return reading(found.sort((a, b) => ((a.iface ?? '') < (b.iface ?? '') ? -1 : 1)).slice(0, limit));
    },
    async enisNamed(ids) {
      return enis().filter(({ id }) => ids.includes(id));
    },
    async enisOf(instance) {
      return enis().filter(eni => eni.instance === instance);
    },
    async sightingsAt(subnet, ips) {
      return reading(sightings().filter(one => one.subnet === subnet && ips.includes(one.ip)));
    },
  };
}
