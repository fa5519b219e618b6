/** The ledger in memory. It is the executable specification of all stores. */
import { type Cidr, contains, type Ipv4, numberOf, spreadOf } from '../domain/address.ts';
import {
  type Allocation,
  type Change,
  isIntent,
  isRested,
  isSkipped,
  mayStillLeave,
  moved,
  STATUSES,
  withContainer,
} from '../domain/allocation.ts';
import type { EniId, SubnetId } from '../domain/ids.ts';
import { mayBeUnanswered } from '../domain/suspects.ts';
import { ifaceAfter, isCounted, type Limited, roomOf, startsToCount } from '../domain/tenant.ts';
import { batchOf, createTokens, keyOf } from './group-commit.ts';
import { createMemoryHistory } from './memory-history.ts';
import { createMemoryHosts } from './memory-hosts.ts';
import { createMemoryLooks } from './memory-looks.ts';
import { createMemorySightings } from './memory-sightings.ts';
import {
  type FreeQuery,
  type LedgerEni,
  type LedgerServer,
  type LedgerSubnet,
  type NewAllocation,
  SERVER_KEPT_MS,
  type Store,
  type Tally,
  VERSION_CHARS_MAX,
} from './store.ts';
import { type Bucket, FULL, permitIn, slowed, withoutPermit } from './token-bucket.ts';

/** It is lost with the process. */
export function createMemoryStore(
  options: { clock?: () => number; origin?: string; history?: boolean } = {},
): Store {
  const clock = options.clock ?? Date.now;
  const newToken = createTokens(options.origin);
  const allocations = new Map<string, Allocation>();
  const { noteMove, noteEc2Calls, ended, ...historyReads } = createMemoryHistory(
    options.history ?? true,
    clock,
    (subnet, ip) => allocations.get(keyOf({ subnet, ip })),
  );
  /** The row that was given the id of a request last. */
  const rowOfRequest = new Map<string, string>();
  const subnets = new Map<SubnetId, LedgerSubnet>();
  const enis = new Map<EniId, LedgerEni>();
  const tenants = new Map<string, { quota: number; profile: string | null }>();
  const servers = new Map<string, LedgerServer>();
  const { allSightings, forgetWitnesses, ...sightings } = createMemorySightings(clock);
  const begun = new Set<string>();
  const leases = new Map<string, { server: string; until: number }>();
  const facts = new Map<string, string>();
  const buckets = new Map<string, Bucket>();

  const where = (test: (row: Allocation) => boolean): Allocation[] => [...allocations.values()].filter(test);
  const mayBeNeeded = (server: LedgerServer): boolean =>
    server.stoppedAt === null &&
    where(row => row.status === 'allocated' && mayBeUnanswered(row, server)).length > 0;
  /** Returns false if another row has the id of the request. */
  function noteRequest({ requestId: before }: Allocation, after: Allocation): boolean {
    const { requestId } = after;
    if (requestId === before) return true;
    if (requestId !== null && rowOfRequest.has(requestId)) return false;
    if (before !== null) rowOfRequest.delete(before);
    if (requestId !== null) rowOfRequest.set(requestId, keyOf(after));
    return true;
  }
  const reading = <T>(rows: readonly T[]) => ({ now: clock(), rows });

  const usedBy = (tenant: string): number =>
    where(row => isCounted(row) && row.iface !== null && enis.get(row.iface)?.tenant === tenant).length;
  function tenantOf(eni: EniId | null): Limited | null {
    const name = (eni && enis.get(eni)?.tenant) ?? null;
    const quota = name === null ? undefined : tenants.get(name)?.quota;
    return name === null || quota === undefined ? null : { name, quota, used: usedBy(name) };
  }
  const isWithinQuota = (change: Change): boolean =>
    !startsToCount(change.move) || roomOf(tenantOf(ifaceAfter(change))) > 0;

  return {
    ...historyReads,
    ...sightings,
    ...createMemoryHosts(clock, forgetWitnesses),
    ...createMemoryLooks({
      rows: () => [...allocations.values()].sort(byAddress),
      enis: () => [...enis.values()],
      ended,
      sightings: allSightings,
      clock,
    }),
    async migrate() {},
    async outdated() {
      return null;
    },
    async close() {},

    async lateOutcomes() {
      return { moved: [], unsettled: 0 }; // the outcome of a commit is always known here
    },
    async move(changes) {
      const now = clock();
      const token = newToken();
      const batch = batchOf(changes);
      const all = batch.flatMap(change => {
        const row = allocations.get(keyOf(change.row));
        const after = row !== undefined && isWithinQuota(change) ? moved(row, change, now, token) : null;
        if (row === undefined || after === null || !noteRequest(row, after)) return [];
        allocations.set(keyOf(after), after);
        noteMove(change, row, after);
        return after;
      });
      noteEc2Calls(batch, all.toSorted(byAddress), now, token);
      return all;
    },
    async add(rows) {
      const now = clock();
      const token = newToken();
      const fresh = rows.filter(row => {
        if (allocations.has(keyOf(row))) return false;
        allocations.set(keyOf(row), freshRow(row, now, token));
        return true;
      });
      return fresh.length;
    },

    async get(subnet, ips) {
      return reading(ips.flatMap(ip => allocations.get(keyOf({ subnet, ip })) ?? []));
    },
    async withRequest(id) {
      const row = allocations.get(rowOfRequest.get(id) ?? '');
      return reading(row === undefined ? [] : [row]);
    },
    async onEni(eni) {
      return reading(where(row => row.iface === eni).sort(byAddress));
    },
    async readyOn(eni, range, limit) {
      const offered = where(
        row => row.iface === eni && row.status === 'ready' && !row.primary && isIn(range, row.ip),
      );
      return reading(offered.sort((a, b) => byRest(a, b) || byAddress(a, b)).slice(0, limit));
    },
    async freeFor(query) {
      const free = where(row => row.subnet === query.subnet && row.status === 'free');
      return reading(bestFirst(free, query, clock()));
    },
    async intents(ageMs, limit) {
      const before = clock() - ageMs;
      const old = where(row => isIntent(row) && row.movedAt <= before);
      return reading(old.sort((a, b) => a.movedAt - b.movedAt || byAddress(a, b)).slice(0, limit));
    },
    async withStatus(subnet, statuses) {
      return reading(where(row => row.subnet === subnet && statuses.includes(row.status)).sort(byAddress));
    },
    async tally() {
      return tallyOf([...allocations.values()]);
    },

    async subnets() {
      return [...subnets.values()];
    },
    async saveSubnet(subnet) {
      subnets.set(subnet.id, subnet);
    },
    async eni(id) {
      return enis.get(id) ?? null;
    },
    async enis() {
      return [...enis.values()];
    },
    async saveEnis(list) {
      for (const eni of list) {
        const { ours, releasedAt } = enis.get(eni.id) ?? eni;
        enis.set(eni.id, { ...eni, ours, releasedAt });
      }
    },
    async noteAttachments(seen, readAt) {
      for (const { id, attachment } of seen) {
        const eni = enis.get(id);
        if (eni !== undefined && eni.attachment === attachment)
          enis.set(id, { ...eni, attachmentSeenAt: readAt });
      }
    },
    async adopt(id) {
      const eni = enis.get(id);
      if (eni !== undefined) enis.set(id, { ...eni, ours: true });
    },
    async setReleased(id, released) {
      const eni = enis.get(id);
      if (eni !== undefined)
        enis.set(id, { ...eni, releasedAt: released ? (eni.releasedAt ?? clock()) : null });
    },

    async noteContainers(shown) {
      for (const { row, id } of shown) {
        const known = allocations.get(keyOf(row));
        const after = known === undefined ? null : withContainer(known, row, id);
        if (after !== null) allocations.set(keyOf(after), after);
      }
    },

    async saveTenant({ name, quota, profile }) {
      tenants.set(name, { quota, profile: profile ?? tenants.get(name)?.profile ?? null });
    },
    async removeTenant(name) {
      tenants.delete(name);
    },
    async tenants() {
      const named = [...enis.values()].flatMap(eni => eni.tenant ?? []);
      const names = [...new Set([...tenants.keys(), ...named])].sort();
      return names.map(name => {
        const { quota = null, profile = null } = tenants.get(name) ?? {};
        return { name, quota, profile, used: usedBy(name) };
      });
    },
    async tenantProfiles() {
      return new Map(
        [...tenants].flatMap(([name, { profile }]) => (profile === null ? [] : [[profile, name]])),
      );
    },
    async tenantOf(eni) {
      return tenantOf(eni);
    },

    async beat(id, stopped, version = null) {
      const now = clock();
      const { startedAt = now } = servers.get(id) ?? {};
      const cut = version?.slice(0, VERSION_CHARS_MAX) ?? null;
      servers.set(id, { id, startedAt, seenAt: now, stoppedAt: stopped ? now : null, version: cut });
      if (!begun.has(id))
        for (const server of servers.values())
          if (server.seenAt < now - SERVER_KEPT_MS && !mayBeNeeded(server)) servers.delete(server.id);
      begun.add(id);
      return now;
    },
    async servers() {
      return reading([...servers.values()]);
    },
    async lease(name, server, forMs) {
      const held = leases.get(name);
      const now = clock();
      const isHeld = held !== undefined && held.until > now && held.until <= now + forMs;
      if (isHeld && held.server !== server) return false;
      leases.set(name, { server, until: now + forMs });
      return true;
    },
    async takePermit(query) {
      const taken = permitIn(buckets.get(query.name) ?? FULL, query, clock());
      if (taken !== null) buckets.set(query.name, taken.after);
      return taken?.waitMs ?? null;
    },
    async giveBackPermit(query) {
      const bucket = buckets.get(query.name);
      if (bucket !== undefined) buckets.set(query.name, withoutPermit(bucket, query, clock()));
    },
    async slowBucket({ name, aheadMs }) {
      const after = slowed(buckets.get(name) ?? FULL, aheadMs, clock());
      if (after !== null) buckets.set(name, after);
      return after?.halvings ?? null;
    },
    async fact(name) {
      return facts.get(name) ?? null;
    },
    async noteFact(name, value) {
      facts.set(name, value);
    },
    async addToFact(name, more) {
      facts.set(name, String(Number(facts.get(name) ?? 0) + more));
    },
    async noteFactOnce(name, value) {
      const known = facts.get(name) ?? value;
      facts.set(name, known);
      return known;
    },
  };
}

const freshRow = (row: NewAllocation, now: number, token: string): Allocation => ({
  subnet: row.subnet,
  ip: row.ip,
  status: row.status,
  iface: row.iface,
  primary: row.primary,
  generation: 0,
  movedAt: now,
  restedSince: null,
  restedFrom: null,
  leftIface: null,
  leftAt: null,
  leftUnsure: false,
  placedAt: null,
  missingSince: null,
  repairUnsureAt: null,
  absentSince: null,
  refusedAt: null,
  holder: null,
  containerId: null,
  containerSince: null,
  instance: null,
  requestId: null,
  releaseId: null,
  claimedAt: null,
  repeatedAt: null,
  reservedFor: null,
  token,
});

type Address = Pick<Allocation, 'subnet' | 'ip'>;

const isIn = (range: Cidr | null, ip: Ipv4): boolean => range === null || contains(range, ip);

const byAddress = (a: Address, b: Address): number =>
  numberOf(a.ip) - numberOf(b.ip) || (a.subnet < b.subnet ? -1 : a.subnet > b.subnet ? 1 : 0);

/** Null (never) comes first, then the oldest. */
const byTime = (a: number | null, b: number | null): number => (a ?? -1) - (b ?? -1);
const byRest = (a: Allocation, b: Allocation): number => byTime(a.restedSince, b.restedSince);

/** The order of `Store.freeFor`. An address that has not rested comes after all that have, also after those that EC2
 *  refused once. */
function bestFirst(free: Allocation[], query: FreeQuery, now: number): Allocation[] {
  const start = spreadOf(query.eni);
  const distance = (row: Allocation): number => (spreadOf(row.ip) - start + 2 ** 32) % 2 ** 32;
  const order = (a: Allocation, b: Allocation): number =>
    byTime(a.refusedAt, b.refusedAt) ||
    byRest(a, b) ||
    (a.restedSince === null ? distance(a) - distance(b) : spreadOf(a.ip) - spreadOf(b.ip)) ||
    byAddress(a, b);
  const usable = free
    .filter(row => isIn(query.range, row.ip) && isSkipped(row, now) === (query.which === 'skipped'))
    .filter(row => !mayStillLeave(row, query.eni, query.rest, now))
    .sort(order);
  const rested = usable.filter(row => isRested(row, query.eni, query.rest, now));
  const others = usable.filter(row => !isRested(row, query.eni, query.rest, now));
  return (query.which === 'any' ? [...rested, ...others] : rested).slice(0, query.limit);
}

function tallyOf(rows: readonly Allocation[]): Tally[] {
  const counts = new Map<SubnetId, Map<string, number>>();
  for (const row of rows) {
    const ofSubnet = counts.get(row.subnet) ?? new Map<string, number>();
    ofSubnet.set(row.status, (ofSubnet.get(row.status) ?? 0) + 1);
    counts.set(row.subnet, ofSubnet);
  }
  return [...counts].flatMap(([subnet, ofSubnet]) =>
    STATUSES.flatMap(status => {
      const count = ofSubnet.get(status);
      return count === undefined ? [] : { subnet, status, count };
    }),
  );
}
