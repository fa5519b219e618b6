/**
 * Weighs what hosts show of addresses: ends holdings that nobody uses, and withholds addresses that are in use without a
 * holder.
 *
 * A reading of a host has three steps, the same for the host of an embedded server and for one whose agent asks: `begin`
 * notes what the ledger has, `weigh` compares with it what the host shows then, and `end` releases what the last proofs
 * leave.
 */
import { randomUUID } from 'node:crypto';
import { type Allocation, type Change, moveToEnd } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import {
  INCOMPLETE_CHARS_MAX,
  type LedgerSighting,
  type LedgerWitness,
  type WitnessedHost,
} from '../../domain/sighting.ts';
import {
  ENDED_BY_EVIDENCE,
  type HostReading,
  type Leak,
  type Verdict,
  weigh as weighReading,
} from '../../domain/witness.ts';
import type { LedgerEni } from '../../store/store.ts';
import type { ProbeAnswer, ToProbe } from '../../witness/witness.ts';
import { type IpamContext, urgently } from '../context.ts';
import type { Enis } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';

/** Reported leaks that are remembered. */
const REPORTED_MAX = 10_000;
/** Hosts that are remembered. At this number the oldest is forgotten. */
const HOSTS_MAX = 10_000;
/** For how long after its begin a reading counts, in milliseconds. */
export const READING_VALID_MS = 30_000;

/** `report`: says what it would end. */
export type WitnessMode = 'report' | 'release';

export interface WitnessedOptions {
  readonly mode: WitnessMode;
  /** How far the readings must be apart, and how old a holding must be; see WITNESS_AGE_MS. */
  readonly ageMs: number;
}

export interface WitnessedParts {
  readonly enis: Pick<Enis, 'recall'>;
  readonly cache: Pick<Cache, 'note' | 'withhold'>;
  readonly warm: Pick<WarmPools, 'released'>;
}

/** A reading of a host that was begun: what the ledger had before the host was read. */
export interface Round {
  readonly host: WitnessedHost;
  /** By the deadline clock. */
  readonly begunAt: number;
  readonly enis: readonly LedgerEni[];
  /** All rows of these ENIs, without holdings that the host cannot speak for. */
  readonly rows: readonly Allocation[];
  readonly before: readonly LedgerSighting[];
  /** The store's clock at the read. */
  readonly now: number;
  readonly witness: LedgerWitness;
}

/** What is left of a reading when it was weighed. */
export interface Weighed {
  readonly round: Round;
  /** Holdings that nobody uses, as far as the readings show. */
  readonly leaks: readonly Leak[];
  /** What the host's kernel has to be asked of them; nothing: the reading is over. */
  readonly toProbe: readonly ToProbe[];
}

export interface Witnessed {
  readonly mode: WitnessMode;
  /** Notes what the ledger has on these ENIs, which must be the host's. A reading of the host that was begun before
   *  counts no more, at whatever server. */
  begin(host: WitnessedHost, enis: readonly LedgerEni[]): Promise<Round>;
  /** Makes the moves that the reading proves, but for ends of holdings. */
  weigh(round: Round, reading: HostReading): Promise<Weighed>;
  /** Ends the holdings that the kernel, and EC2 at last, do not speak for. */
  end(weighed: Weighed, answers: readonly ProbeAnswer[]): Promise<void>;
}

/** What this process knows of the readings of one host. */
interface Memory {
  /** When it first saw a holding unseen, by its own clock: the store's may be set. */
  readonly unseenAt: Map<string, number>;
  lastIncomplete: string | null;
}

const keyOf = ({ subnet, ip, generation }: Pick<Allocation, 'subnet' | 'ip' | 'generation'>): string =>
  `${subnet} ${ip} ${generation}`;
const unseenKeyOf = (one: LedgerSighting): string => `${keyOf(one)} ${one.unseenSince}`;

export function createWitnessed(
  context: IpamContext,
  { enis: known, cache, warm }: WitnessedParts,
  { mode, ageMs }: WitnessedOptions,
): Witnessed {
  const { store, clock, deadlineClock, log } = context;
  const { cloud } = urgently(context, () => 'reconcile');
  const memories = new Map<WitnessedHost, Memory>();
  /** Leaks that were reported, so that each is logged once. */
  const reported = new Set<string>();
  /** Why the leaks of each ENI were kept last. */
  const keptFor = new Map<EniId, string>();

  function memoryOf(host: WitnessedHost): Memory {
    const memory = memories.get(host) ?? { unseenAt: new Map(), lastIncomplete: null };
    const [oldest] = memories.size >= HOSTS_MAX && !memories.has(host) ? memories.keys() : [];
    if (oldest !== undefined) memories.delete(oldest);
    memories.set(host, memory);
    return memory;
  }

  const isLate = ({ begunAt }: Round): boolean => deadlineClock() - begunAt > READING_VALID_MS;

  async function begin(host: WitnessedHost, enis: readonly LedgerEni[]): Promise<Round> {
    const begunAt = deadlineClock();
    const witness = await store.beginReading(host, randomUUID());
    const { rows: before, now } = await store.sightings(enis.map(eni => eni.id));
    const rows: Allocation[] = [];
    for (const eni of enis)
      rows.push(...(await store.onEni(eni.id)).rows.filter(row => speaksFor(host, eni, row)));
    return { host, begunAt, enis, rows, before, now, witness };
  }

  /** Whether the host can show that the row has no user. What another instance was given, it cannot; and where it is not
   *  noted to which one that was, the ENI may have come to the host since. An embedded ledger is one instance's. */
  function speaksFor(host: WitnessedHost, { earlierAttachment }: LedgerEni, row: Allocation): boolean {
    if (row.status !== 'allocated' || host === '' || host === context.host.instance) return true;
    return row.instance === null ? earlierAttachment === null : row.instance === host;
  }

  async function weigh(round: Round, reading: HostReading): Promise<Weighed> {
    const over = { round, leaks: [], toProbe: [] };
    if (isLate(round)) return over;
    const engine = engineAfter(round, reading);
    const verdict = weighReading({ ...round, reading, engineSince: engine.engineSince, ageMs });
    const incomplete = verdict.incomplete?.slice(0, INCOMPLETE_CHARS_MAX) ?? null;
    const witness = { ...round.witness, ...engine, incomplete };
    if (!(await store.saveReading(witness, verdict.save, verdict.forget))) return over;
    const ids = round.enis.map(eni => eni.id);
    cache.withhold(ids, verdict.withheld);
    await move(verdict);
    await noteContainers(verdict);
    const memory = memoryOf(round.host);
    noteUnseen(memory, round.before, verdict);
    sayIncomplete(memory, round.host, incomplete);
    const leaks = verdict.leaks.filter(leak => isOldHere(memory, leak));
    if (mode === 'report') {
      for (const leak of leaks) report(leak);
      return over;
    }
    if (verdict.postponed > 0)
      log('info', 'more holdings without a user, left for the next reading', { count: verdict.postponed });
    return { round: { ...round, witness }, leaks, toProbe: toProbe(round, leaks) };
  }

  /** Makes ready addresses that are in use occupied, and those that are not any more ready. */
  async function move({ strays, cleared }: Verdict): Promise<void> {
    const changes = [
      ...strays.map(({ row }): Change => ({ row, move: 'strayed' })),
      ...cleared.map((row): Change => ({ row, move: 'cleared' })),
    ];
    if (changes.length === 0) return;
    for (const row of await store.move(changes)) {
      const stray = strays.find(one => one.row.ip === row.ip && one.row.subnet === row.subnet);
      const about = { eni: row.iface, ip: row.ip };
      if (stray !== undefined)
        log('warn', 'address in use on the host without a holder', { ...about, finding: stray.finding });
      else {
        log('info', 'address no longer in use on the host', about);
        cache.note(row);
      }
    }
  }

  /** The history can do without the ids, so a failure stops nothing. The next reading shows them again. */
  async function noteContainers({ containers }: Verdict): Promise<void> {
    if (containers.length === 0) return;
    try {
      await store.noteContainers(containers);
    } catch (error) {
      if (!isError(error, 'store-down')) throw error;
      log('info', 'ids of containers not noted, until the next reading', { error: error.line });
    }
  }

  function noteUnseen(
    { unseenAt }: Memory,
    before: readonly LedgerSighting[],
    { save, forget }: Verdict,
  ): void {
    const replaced = new Set([...save, ...forget].map(one => `${one.subnet} ${one.ip}`));
    const kept = before.filter(one => !replaced.has(`${one.subnet} ${one.ip}`));
    const unseen = new Set([...kept, ...save].filter(one => one.unseenSince !== null).map(unseenKeyOf));
    for (const key of unseenAt.keys()) if (!unseen.has(key)) unseenAt.delete(key);
    for (const key of unseen) if (!unseenAt.has(key)) unseenAt.set(key, clock());
  }

  const isOldHere = ({ unseenAt }: Memory, { row, unseenSince }: Leak): boolean =>
    clock() - (unseenAt.get(`${keyOf(row)} ${unseenSince}`) ?? clock()) >= ageMs;

  function sayIncomplete(memory: Memory, host: WitnessedHost, why: string | null): void {
    if (why !== null && why !== memory.lastIncomplete)
      log('info', 'host not read completely, no holding ends by evidence', { host, error: why });
    memory.lastIncomplete = why;
  }

  function report({ row, unseenSince, readings }: Leak): void {
    const key = `${keyOf(row)} ${unseenSince}`;
    if (reported.has(key)) return;
    if (reported.size >= REPORTED_MAX) reported.clear();
    reported.add(key);
    log('warn', 'holding without a user, kept: --witness is report', {
      ...{ eni: row.iface, ip: row.ip, holder: row.holder, readings },
    });
  }

  async function end({ round, leaks }: Weighed, answers: readonly ProbeAnswer[]): Promise<void> {
    const unused = round.enis.flatMap(eni => probedFree(eni, leaks, answers));
    const left = await attachedAsBefore(round.enis, unused);
    // Another reading of the host may have been begun since, at another server.
    if (left.length === 0 || !(await store.saveReading(round.witness, [], [])) || isLate(round)) return;
    const moved = await store.move(
      left.map(
        ({ row }): Change => ({
          row,
          move: moveToEnd(row),
          cause: 'evidence',
        }),
      ),
    );
    for (const row of moved) ended(row, left);
    if (moved.length > 0) await store.addToFact(ENDED_BY_EVIDENCE, moved.length);
  }

  /** Those of the ENI that no ipvlan slave of it has, as the host's kernel answers. */
  function probedFree(
    { id, mac }: LedgerEni,
    leaks: readonly Leak[],
    answers: readonly ProbeAnswer[],
  ): readonly Leak[] {
    const ofEni = leaks.filter(({ row }) => row.iface === id);
    const answer = answers.find(one => one.mac === mac);
    if (ofEni.length === 0 || answer === undefined) return [];
    if (answer.kind === 'failed') return keep(id, answer.why);
    return answer.kind === 'not ipvlan' ? ofEni : ofEni.filter(({ row }) => answer.free.includes(row.ip));
  }

  /** Those on ENIs that EC2 still shows as they were when the reading began. */
  async function attachedAsBefore(
    enis: readonly LedgerEni[],
    leaks: readonly Leak[],
  ): Promise<readonly Leak[]> {
    const asked = enis.filter(({ id }) => leaks.some(({ row }) => row.iface === id));
    try {
      const seen = asked.length === 0 ? [] : await cloud.enisById(asked.map(({ id }) => id));
      return asked.flatMap(({ id, attachment }) => {
        // EC2 never uses the id of an attachment again.
        if (seen.find(one => one.id === id)?.attachment !== attachment)
          return keep(id, 'EC2 shows another attachment');
        keptFor.delete(id);
        return leaks.filter(({ row }) => row.iface === id);
      });
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      return asked.flatMap(({ id }) => keep(id, error.line));
    }
  }

  function keep(eni: EniId, why: string): [] {
    if (keptFor.get(eni) !== why) log('warn', 'holdings without a user kept', { eni, error: why });
    keptFor.set(eni, why);
    return [];
  }

  function ended(row: Allocation, leaks: readonly Leak[]): void {
    const leak = leaks.find(one => one.row.ip === row.ip && one.row.subnet === row.subnet);
    log('warn', 'holder ended: nothing on its host uses the address', {
      ...{ cause: 'evidence', eni: row.iface, ip: row.ip, holder: leak?.row.holder ?? null },
      readings: leak?.readings,
    });
    cache.note(row);
    const home = row.iface === null ? null : known.recall(row.iface);
    if (home !== null) warm.released({ home, range: null });
  }

  return { mode, begin, weigh, end };
}

/** What is known of the engine with the reading. Another engine's id means that Docker's data was wiped. */
function engineAfter(
  { witness, now }: Round,
  { engine }: HostReading,
): Pick<LedgerWitness, 'engine' | 'engineSince'> {
  if (engine === null || engine === witness.engine) return witness;
  return { engine, engineSince: witness.engine === null ? null : now };
}

const toProbe = ({ enis }: Round, leaks: readonly Leak[]): ToProbe[] =>
  enis.flatMap(({ id, mac }) => {
    const ips = leaks.filter(({ row }) => row.iface === id).map(({ row }) => row.ip);
    return mac === null || ips.length === 0 ? [] : [{ mac, ips }];
  });
