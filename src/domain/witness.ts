/**
 * Decides from readings of a host which held addresses nobody uses, and which addresses are in use although nobody
 * holds them.
 *
 * Docker forgets an address without a release when it is killed at the wrong moment; and it releases an address whose
 * process runs on. A reading says what Docker and the kernel show at one time. An address is in use if any of them
 * shows it. What could not be read proves nothing.
 */
import type { Ipv4 } from './address.ts';
import type { Allocation } from './allocation.ts';
import { shortId } from './container.ts';
import type { EniId } from './ids.ts';
import { isStray, type LedgerSighting, type ShownContainer } from './sighting.ts';

/** A network namespace that has an address. */
export interface KernelPlace {
  /** Its inode. */
  readonly netns: string;
  /** It is the host's own, not a container's. */
  readonly isHost: boolean;
  /** A process in it; null: it has none. */
  readonly pid: number | null;
  readonly command: string | null;
  /** The id of the container that the process belongs to, as its control group says. */
  readonly container: string | null;
  /** Where a namespace without a process is mounted. */
  readonly path: string | null;
}

/** A container for people. */
export interface ContainerName {
  readonly id: string;
  readonly name: string | null;
  readonly image: string | null;
}

/** What a reading shows of one address. */
export interface Use {
  readonly ip: Ipv4;
  /** Docker's networks list it. */
  readonly isInNetworks: boolean;
  /** Docker lists a running or paused container that has it. */
  readonly isInContainers: boolean;
  readonly places: readonly KernelPlace[];
  /** Who has it in Docker. For people, never for a decision. */
  readonly container: ContainerName | null;
  /** The endpoints that have it in Docker's networks, on interfaces of the host that are known; none: there are more than
   *  ENDPOINTS_MAX. */
  readonly endpoints: readonly UsedEndpoint[];
}

/** An endpoint of a Docker network. Docker deletes it before it releases the address. */
export interface UsedEndpoint {
  /** The MAC address of the network's interface. */
  readonly mac: string;
  /** The id of its container; null: the container is about to start, or the endpoint was left behind. */
  readonly container: string | null;
}
/** An address has one endpoint; more of them do not tell who holds it. */
export const ENDPOINTS_MAX = 2;

/** What Docker and the kernel of one host show. */
export interface HostReading {
  /** Linux's id of the boot, and Docker's id of its data; null: not read. */
  readonly boot: string | null;
  readonly engine: string | null;
  /** Docker has a runtime that may keep addresses where the kernel does not show them. */
  readonly hasOtherRuntimes: boolean;
  /** The MAC addresses of the host's interfaces. */
  readonly macs: readonly string[];
  readonly uses: readonly Use[];
  /** ENIs for which a call of the host has no answer yet. */
  readonly unanswered: readonly EniId[];
  /** Why an address that is not shown may be in use all the same; null: it is not in use. */
  readonly incomplete: string | null;
}

/** A fact of the ledger: how many holdings ended by evidence. */
export const ENDED_BY_EVIDENCE = 'ended by evidence';

/** How soon after a reading the host may be read again, since an address was released meanwhile, in milliseconds. Docker
 *  releases an address whose process runs on when it was killed at the wrong moment. */
export const AFTER_RELEASE_MS = 10_000;
/** How old a holding must be at the first reading that counts, and how far the readings must be apart, in
 *  milliseconds. */
export const WITNESS_AGE_MS = 120_000;
/** Readings that must show, or miss, an address that nobody holds before it becomes occupied, or ready again. */
const READINGS_MIN = 2;
/** Holdings of one ENI that one pass ends: this many, or a quarter. */
const ENDED_MIN = 3;
const ENDED_PART = 4;
/** How often it is noted that an address is still in use. */
export const SEEN_NOTED_MS = 600_000;

/** An ENI of the ledger for which a reading may count. */
export interface WitnessedEni {
  readonly id: EniId;
  readonly mac: string | null;
  readonly attachment: string | null;
  readonly tenant: string | null;
}

export interface Weighed {
  /** Read before the host was: all rows of the ENIs, the sightings, and the store's clock. */
  readonly rows: readonly Allocation[];
  readonly before: readonly LedgerSighting[];
  readonly now: number;
  readonly enis: readonly WitnessedEni[];
  readonly reading: HostReading;
  /** When the engine's id changed; null: it did not. Its data was lost then, and with it what it knew of its
   *  containers. */
  readonly engineSince: number | null;
  /** WITNESS_AGE_MS, or less in tests. */
  readonly ageMs: number;
}

/** A holding that nobody uses, as far as two readings show. */
export interface Leak {
  readonly row: Allocation;
  readonly unseenSince: number;
  readonly readings: number;
}
/** An address that is in use, and that nobody holds. */
export interface Stray {
  readonly row: Allocation;
  readonly finding: string;
}

export interface Verdict {
  /** To be released if EC2 and the probe agree. */
  readonly leaks: readonly Leak[];
  /** How many more there are than one pass releases. */
  readonly postponed: number;
  /** Not to be given: ready or occupied, in use, and not held. */
  readonly withheld: readonly Stray[];
  /** Of these, the ready ones that become occupied now. */
  readonly strays: readonly Stray[];
  /** Occupied for that reason, and no longer in use. */
  readonly cleared: readonly Allocation[];
  readonly save: readonly LedgerSighting[];
  readonly forget: readonly Pick<LedgerSighting, 'subnet' | 'ip' | 'iface'>[];
  /** Those that were not known before. They count for the holdings that are the same when this is noted. */
  readonly containers: readonly ShownContainer[];
  /** Why the reading does not count for any ENI; null: it counts for some. */
  readonly incomplete: string | null;
}

const keyOf = ({ subnet, ip }: Pick<Allocation, 'subnet' | 'ip'>): string => `${subnet} ${ip}`;

/** Whether anything on the host has the address. */
export const isInUse = (use: Use | undefined): boolean =>
  use !== undefined && (use.isInNetworks || use.isInContainers || use.places.length > 0);

/** The namespaces of containers that have the address. An address that the host itself has does not keep a container
 *  from using it: amazon-ec2-net-utils puts all addresses of an ENI there. */
const insideOf = (use: Use | undefined): KernelPlace[] => use?.places.filter(({ isHost }) => !isHost) ?? [];

/** Weighs a reading together with those before it, which `before` sums up. */
export function weigh(weighed: Weighed): Verdict {
  const { rows, enis, reading } = weighed;
  const uses = new Map(reading.uses.map(use => [use.ip, use]));
  const incomplete = reading.incomplete ?? blindness(rows, uses);
  const before = new Map(weighed.before.map(one => [keyOf(one), one]));
  const byEni = new Map(enis.map(eni => [eni.id, eni]));
  const found = { leaks: [] as Leak[], withheld: [] as Stray[], strays: [] as Stray[] };
  const cleared: Allocation[] = [];
  const containers: ShownContainer[] = [];
  const after = new Map<string, LedgerSighting | null>();
  for (const row of rows) {
    const eni = row.iface === null ? undefined : byEni.get(row.iface);
    if (eni === undefined || row.primary) continue;
    const known = before.get(keyOf(row));
    const seen: Seen = {
      ...{ row, eni, use: uses.get(row.ip), weighed },
      prior: priorOf(row, known),
      isCounted: incomplete === null && isCovered(eni, reading),
    };
    if (row.status === 'allocated') {
      const id = row.containerId === null ? containerOn(seen) : null;
      if (id !== null) containers.push({ row, id });
      const now = afterHeld(seen);
      after.set(keyOf(row), now);
      if (now !== null && isLeak(seen, now))
        found.leaks.push({ row, unseenSince: now.unseenSince ?? weighed.now, readings: now.unseenReadings });
    } else {
      const now = afterIdle(seen);
      after.set(keyOf(row), now);
      if (now === null || now.usedSince === null) continue;
      const stray = { row, finding: now.finding ?? '' };
      const isClear = seen.isCounted && now.unseenReadings >= READINGS_MIN && row.absentSince === null;
      if (row.status === 'occupied' && isClear) {
        cleared.push(row); // its sighting stays until it has moved
        continue;
      }
      found.withheld.push(stray);
      // A tenant's stays ready: occupied it would not count against the quota, and a host could get more by saying so.
      if (row.status !== 'ready' || now.usedReadings < READINGS_MIN || eni.tenant !== null) continue;
      found.strays.push(stray);
      // As it is after the move, which is made when this is saved.
      after.set(keyOf(row), { ...now, generation: row.generation + 1 });
    }
  }
  const leaks = bounded(found.leaks, rows);
  const outcome = outcomeOf(weighed.before, after);
  const postponed = found.leaks.length - leaks.length;
  return { ...found, leaks, postponed, cleared, containers, ...outcome, incomplete };
}

/** The sighting, if it counts for the row as it is now. */
function priorOf(row: Allocation, known: LedgerSighting | undefined): LedgerSighting | null {
  if (known === undefined || known.iface !== row.iface) return null;
  if (known.generation === row.generation) return known;
  return isStray(row, known) ? { ...known, generation: row.generation } : null;
}

/** One row, and what is known of it. */
interface Seen {
  readonly row: Allocation;
  readonly eni: WitnessedEni;
  readonly use: Use | undefined;
  readonly weighed: Weighed;
  /** The sighting of this generation of the row. */
  readonly prior: LedgerSighting | null;
  /** Whether the reading counts when it does not show the address. */
  readonly isCounted: boolean;
}

/** A running container whose address the kernel does not show: the kernel does not show others either. gVisor takes
 *  addresses off the interface. */
function blindness(rows: readonly Allocation[], uses: ReadonlyMap<Ipv4, Use>): string | null {
  for (const { ip } of rows) {
    const use = uses.get(ip);
    if (use?.isInContainers && use.places.length === 0)
      return `the kernel does not show ${ip} of the running container ${use.container?.name ?? use.container?.id}`;
  }
  return null;
}

/** Whether the reading counts for the ENI: it is on this host, and no call for it is under way. */
const isCovered = (eni: WitnessedEni, reading: HostReading): boolean =>
  isOnHost(eni, reading) && eni.attachment !== null && !reading.unanswered.includes(eni.id);

const isOnHost = ({ mac }: WitnessedEni, { macs }: HostReading): boolean =>
  mac !== null && macs.includes(mac);

function afterHeld({ row, eni, use, weighed, prior, isCounted }: Seen): LedgerSighting | null {
  const { now, reading, ageMs } = weighed;
  const base = { ...(prior ?? blank(row, eni, reading)), usedSince: null, usedReadings: 0, finding: null };
  if (isInUse(use)) return inUse(base, use, now);
  // A container that got its address just now may be about to start.
  if (!isCounted || now - row.movedAt < ageMs) return prior;
  return unseen(base, eni, weighed);
}

function isLeak({ row, weighed, isCounted }: Seen, now: LedgerSighting): boolean {
  const { reading, engineSince, ageMs } = weighed;
  if (!isCounted || now.unseenSince === null) return false;
  if (reading.hasOtherRuntimes && engineSince !== null && row.movedAt < engineSince) return false;
  return weighed.now - now.unseenSince >= ageMs;
}

/** The id of the container that has the held address on its ENI; null: it cannot be told for sure. Docker's networks are
 *  the only view that shows no container whose address was released: its list of containers does for a while, and a process
 *  may run on. And they tell on which ENI it is. */
function containerOn({ row, eni, use }: Seen): string | null {
  const [endpoint, ...others] = use?.endpoints.filter(({ mac }) => mac === eni.mac) ?? [];
  const id = endpoint?.container ?? null;
  if (id === null || others.length > 0) return null;
  // Where the request has told the name, that of another container is no proof.
  const name = use?.container?.id === id ? use.container.name : null;
  return row.holder !== null && name !== null && row.holder !== name ? null : id;
}

/** A ready address, or one that became occupied since a process used it without holding it. */
function afterIdle({ row, eni, use, weighed, prior, isCounted }: Seen): LedgerSighting | null {
  if (row.status !== 'ready' && (row.status !== 'occupied' || prior?.usedSince == null)) return null;
  const { now, reading } = weighed;
  // On another host the same address may be somebody else's.
  const [place] = isOnHost(eni, reading) ? insideOf(use) : [];
  if (place === undefined) {
    if (prior?.usedSince == null || !isCounted) return prior;
    if (row.status === 'occupied') return unseen(prior, eni, weighed);
    const after = prior.usedReadings < READINGS_MIN ? null : unseen(prior, eni, weighed);
    return after !== null && after.unseenReadings < READINGS_MIN ? after : null;
  }
  const base = prior ?? blank(row, eni, reading);
  return {
    ...inUse(base, use, now),
    usedSince: base.usedSince ?? now,
    usedReadings: base.usedReadings + 1,
    finding: findingOf(place),
  };
}

/** Counts a reading that does not show the address. Another boot, engine or attachment begins anew. */
function unseen(
  base: LedgerSighting,
  { attachment }: WitnessedEni,
  { reading, now }: Weighed,
): LedgerSighting {
  const { boot, engine } = reading;
  const goesOn =
    base.unseenSince !== null &&
    base.boot === boot &&
    base.engine === engine &&
    base.attachment === attachment;
  return {
    ...base,
    ...{ boot: boot ?? '', engine: engine ?? '', attachment: attachment ?? '' },
    unseenSince: goesOn ? base.unseenSince : now,
    unseenReadings: goesOn ? base.unseenReadings + 1 : 1,
  };
}

function inUse(base: LedgerSighting, use: Use | undefined, now: number): LedgerSighting {
  const isNoted = base.seenAt !== null && base.unseenSince === null && now - base.seenAt < SEEN_NOTED_MS;
  const { id, name, image } = use?.container ?? { id: base.container, name: base.name, image: base.image };
  return {
    ...base,
    ...{ unseenSince: null, unseenReadings: 0, seenAt: isNoted ? base.seenAt : now },
    ...{ container: id, name: name ?? base.name, image: image ?? base.image },
  };
}

const blank = (row: Allocation, eni: WitnessedEni, { boot, engine }: HostReading): LedgerSighting => ({
  ...{ subnet: row.subnet, ip: row.ip, iface: eni.id, generation: row.generation },
  ...{ boot: boot ?? '', engine: engine ?? '', attachment: eni.attachment ?? '' },
  ...{ unseenSince: null, unseenReadings: 0, usedSince: null, usedReadings: 0 },
  ...{ seenAt: null, container: null, name: null, image: null, finding: null },
});

/** Who has the address, as text for people. */
function findingOf({ pid, command, container, path, netns }: KernelPlace): string {
  const who = pid === null ? 'no process' : `process ${pid} (${command ?? 'unknown'})`;
  const of = container === null ? '' : ` of container ${shortId(container)}`;
  return `${who}${of} in network namespace ${path ?? netns}`;
}

/** The leaks that one pass ends: those unseen longest. Many at once may be a fault of the readings. */
function bounded(leaks: readonly Leak[], rows: readonly Allocation[]): Leak[] {
  const held = Map.groupBy(
    rows.filter(({ status }) => status === 'allocated'),
    row => row.iface,
  );
  return [...Map.groupBy(leaks, ({ row }) => row.iface)].flatMap(([eni, ofEni]) => {
    const max = Math.max(ENDED_MIN, Math.floor((held.get(eni)?.length ?? 0) / ENDED_PART));
    return ofEni.toSorted((a, b) => a.unseenSince - b.unseenSince).slice(0, max);
  });
}

/** The sightings that differ from those before, and those that no longer count. */
function outcomeOf(
  before: readonly LedgerSighting[],
  after: ReadonlyMap<string, LedgerSighting | null>,
): Pick<Verdict, 'save' | 'forget'> {
  const known = new Map(before.map(one => [keyOf(one), one]));
  const save = [...after.values()].flatMap(one =>
    one === null || isSame(one, known.get(keyOf(one))) ? [] : [one],
  );
  const forget = before.filter(one => (after.get(keyOf(one)) ?? null) === null);
  return { save, forget: forget.map(({ subnet, ip, iface }) => ({ subnet, ip, iface })) };
}
const isSame = (a: LedgerSighting, b: LedgerSighting | undefined): boolean =>
  b !== undefined && (Object.keys(a) as (keyof LedgerSighting)[]).every(key => a[key] === b[key]);
