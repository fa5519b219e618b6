/** What needs somebody's attention. */
import { type Allocation, INTENTS } from '../../domain/allocation.ts';
import { type Host, isBlocked } from '../../domain/host.ts';
import type { InstanceId } from '../../domain/ids.ts';
import { isUsedIdle } from '../../domain/sighting.ts';
import { DEAD_AFTER_MS, suspects } from '../../domain/suspects.ts';
import { nextTurn } from '../../store/next-turn.ts';
import type { LedgerEni, LedgerServer, Store } from '../../store/store.ts';
import { roomOn } from '../eni.ts';
import type { Problem, SubnetSummary } from '../overview.ts';
import type { Sources, Viewed } from '../views.ts';

/** Rows of each kind that are read: one more than are listed. */
const ROWS_MAX = 101;
/** Servers that died whose claims are looked for: those that were seen last. */
const DEAD_MAX = 100;
/** A server that died is told of for so long. */
const SERVER_TOLD_MS = 3_600_000;
/** A host is away when nothing was heard of it for so long; its agent and its witness are heard of each minute. */
const HOST_AWAY_MS = 5 * 60_000;
/** A pool is refilled within seconds. */
const REFILL_MS = 30_000;

const NOTHING = { subnet: null, address: null, eni: null, instance: null, since: null };

export const isAway = ({ stoppedAt, seenAt }: LedgerServer, now: number): boolean =>
  stoppedAt === null && now - seenAt > DEAD_AFTER_MS;

/** All that are known, not in the order of the overview. */
export async function readProblems(
  sources: Sources,
  subnets: readonly SubnetSummary[],
): Promise<{ now: number; problems: Problem[] }> {
  const { store } = sources;
  const { now, rows: servers } = await store.servers();
  return {
    now,
    problems: [
      ...(await sources.holders()),
      ...(await ofCalls(sources, subnets)),
      ...(await ofWithheld(store)),
      ...ofThrottling(sources),
      ...(await ofPools(sources, subnets)),
      ...servers.filter(one => isAway(one, now) && now - one.seenAt < SERVER_TOLD_MS).map(serverGone),
      ...(await ofHosts(store)),
    ],
  };
}

const ofRow = ({ subnet, ip: address, iface: eni, instance, movedAt: since }: Allocation) => ({
  ...{ subnet, address, eni, instance, since },
});
const nameOf = ({ ip, holder }: Allocation): string => (holder === null ? ip : `${ip} of ${holder}`);

/** Reads all held rows of the ledger, in the database. */
export async function ofHolders(store: Pick<Store, 'servers' | 'doubtful'>): Promise<Problem[]> {
  const { now, rows: servers } = await store.servers();
  const { rows } = await store.doubtful(
    servers
      .filter(one => isAway(one, now))
      .sort((a, b) => b.seenAt - a.seenAt)
      .slice(0, DEAD_MAX),
    ROWS_MAX,
  );
  const missing = rows.filter(row => row.missingSince !== null);
  return [
    ...missing.map(
      (row): Problem => ({
        ...ofRow(row),
        kind: 'drift',
        text: `${nameOf(row)} is held, but missing from its ENI`,
        since: row.missingSince,
      }),
    ),
    ...suspects(rows, servers, now).map(
      ({ row, why }): Problem => ({
        ...ofRow(row),
        kind: 'suspect',
        text: `${nameOf(row)} is held, but perhaps without a container: ${why}`,
      }),
    ),
  ];
}

/** In good order the ledger has few intents or none. */
async function ofCalls({ store, policy }: Sources, subnets: readonly SubnetSummary[]): Promise<Problem[]> {
  if (!subnets.some(({ counts }) => INTENTS.some(intent => counts[intent] > 0))) return [];
  const { now, rows } = await store.intents(policy.callDeadlineMs, ROWS_MAX);
  return rows.map(row => {
    const isOverdue = now - row.movedAt >= policy.graceMs;
    const what = row.status === 'assigning' ? 'assign' : 'unassign';
    return {
      ...ofRow(row),
      kind: isOverdue ? 'overdue' : 'in doubt',
      text: isOverdue
        ? `the call to ${what} ${row.ip} should have been settled`
        : `the call to ${what} ${row.ip} has no answer`,
    };
  });
}

async function ofWithheld(store: Store): Promise<Problem[]> {
  const { rows: used } = await store.usedSightings();
  const problems: Problem[] = [];
  for (const [subnet, sightings] of Map.groupBy(used.slice(0, ROWS_MAX), one => one.subnet)) {
    const { rows } = await store.get(
      subnet,
      sightings.map(({ ip }) => ip),
    );
    for (const row of rows) {
      const sighting = sightings.find(one => one.ip === row.ip);
      if (sighting === undefined || !isUsedIdle(row, sighting)) continue;
      const text = `${row.ip} is in use on its host, but nobody holds it: ${sighting.finding ?? ''}`;
      problems.push({ ...ofRow(row), kind: 'withheld', text, since: sighting.usedSince });
    }
  }
  return problems;
}

const ofThrottling = ({ recent }: Sources): Problem[] =>
  recent
    .ec2()
    .actions.filter(({ throttled }) => throttled > 0)
    .map(({ action, throttled }) => ({
      ...NOTHING,
      kind: 'throttled',
      text: `EC2 refused ${throttled} calls of ${action} in the last 15 minutes, since there were too many`,
    }));

/** A pool that stayed low for longer than a refill takes. */
export interface DryPool {
  readonly eni: LedgerEni;
  readonly ready: number;
  /** How many more could be assigned; null: the limit is not known. */
  readonly room: number | null;
  /** When one of its addresses moved last; null: it has none. */
  readonly since: number | null;
}

const lowMark = ({ warmMin, warmMax }: Viewed['policy']): number => Math.min(warmMin, warmMax);

/** Reads all rows of the ledger that are on ENIs, in the database. */
export async function readDryPools({ store, policy }: Pick<Viewed, 'store' | 'policy'>): Promise<DryPool[]> {
  const low = lowMark(policy);
  if (low === 0) return [];
  const { now, rows } = await store.lowPools(low, ROWS_MAX);
  const dry = new Map(rows.filter(({ movedAt }) => now - movedAt >= REFILL_MS).map(pool => [pool.eni, pool]));
  const pools: DryPool[] = [];
  for (const eni of await store.enisNamed([...dry.keys()])) {
    const { ready = 0, movedAt = 0 } = dry.get(eni.id) ?? {};
    const room = roomOn(eni, (await store.onEni(eni.id)).rows);
    pools.push({ eni, ready, room, since: movedAt || null });
    await nextTurn();
  }
  return pools;
}

async function ofPools(
  { policy, recent, dryPools }: Sources,
  subnets: readonly SubnetSummary[],
): Promise<Problem[]> {
  const low = lowMark(policy);
  return (await dryPools()).flatMap(({ eni, ready, room: known, since }): Problem[] => {
    const room = known ?? low;
    const wanted = Math.min(low, ready + room);
    if (ready >= wanted && (ready > 0 || room > 0)) return [];
    const { id, subnet, instance } = eni;
    const counts = subnets.find(one => one.id === subnet)?.counts;
    const ec2 = recent.ec2().last;
    const why =
      room === 0
        ? `its limit of ${eni.addressLimit} is reached`
        : counts !== undefined && counts.free === 0
          ? 'the subnet has no free address'
          : ec2 !== null && ec2 !== 'ok'
            ? `EC2's last answer was ${ec2}`
            : 'the log says why';
    const text = `${id} has ${ready} ready addresses and should have ${room === 0 ? low : wanted}: ${why}`;
    return [{ ...NOTHING, ...{ kind: 'pool', text, subnet, eni: id, instance, since } }];
  });
}

const serverGone = ({ id, seenAt }: LedgerServer): Problem => ({
  ...NOTHING,
  kind: 'server',
  text: `server ${id} ended without a stop, or cannot reach the ledger`,
  since: seenAt,
});

/** A host without an ENI of the ledger is not missed: it was terminated, or nothing on it can leak. */
async function ofHosts(store: Store): Promise<Problem[]> {
  const { now, rows: hosts } = await store.hosts();
  await nextTurn();
  const { rows: witnesses } = await store.witnesses();
  await nextTurn();
  const isLate = (at: number | null): at is number => at !== null && now - at > HOST_AWAY_MS;
  const used = new Set((await store.enis()).flatMap(({ ours, instance }) => (ours ? (instance ?? []) : [])));
  const byInstance = new Map<string, Host>(hosts.map(host => [host.instance, host]));
  const isAgent = (host: Host): boolean => !isBlocked(host) && (host.expiresAt ?? now + 1) > now;
  const gone = hosts.filter(host => used.has(host.instance) && isAgent(host) && isLate(host.seenAt));
  const isReadable = (instance: string): boolean => {
    // A server that does not know its own instance reads one that is not enrolled.
    if (instance === '') return [...used].some(one => !byInstance.has(one));
    const host = byInstance.get(instance);
    return (
      used.has(instance as InstanceId) && (host === undefined || (isAgent(host) && !gone.includes(host)))
    );
  };
  const unread = witnesses.filter(({ instance, readAt }) => isLate(readAt) && isReadable(instance));
  return [
    ...gone.map(({ instance, seenAt }) => hostGone(instance, 'is not connected', seenAt)),
    ...unread.map(({ instance, readAt }) =>
      hostGone(instance, 'was not read: its leaks are not found', readAt),
    ),
  ];
}

const hostGone = (instance: string, what: string, since: number | null): Problem => ({
  ...NOTHING,
  ...{ kind: 'host', text: `${instance || 'this host'} ${what}`, instance: instance || null, since },
});
