/** Embedded: reads the host at intervals, ends holdings that nobody uses, and withholds addresses that are in use without
 *  a holder. */
import type { Allocation, Change } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import {
  type HostReading,
  type Leak,
  type LedgerSighting,
  type Verdict,
  weigh,
} from '../../domain/witness.ts';
import type { LedgerEni } from '../../store/store.ts';
import type { Witness } from '../../witness/witness.ts';
import type { IpamContext } from '../context.ts';
import { type Enis, oursIn } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';

/** Facts of the ledger: the engine that was read last, and how many holdings ended by evidence. */
const ENGINE = 'engine';
export const ENDED_BY_EVIDENCE = 'ended by evidence';

/** Reported leaks that are remembered. */
const REPORTED_MAX = 10_000;
/** For how long after its start a reading counts, in milliseconds. */
const READING_VALID_MS = 30_000;

/** `report`: says what it would end. */
export type WitnessMode = 'report' | 'release';

export interface WitnessOptions {
  readonly witness: Witness;
  readonly mode: WitnessMode;
  /** The pause between two readings. */
  readonly everyMs: number;
  /** How far the readings must be apart, and how old a holding must be; see WITNESS_AGE_MS. */
  readonly ageMs: number;
}

export interface WitnessedParts {
  readonly enis: Pick<Enis, 'recall'>;
  readonly cache: Pick<Cache, 'note' | 'withhold'>;
  readonly warm: Pick<WarmPools, 'released'>;
}

export interface Witnessed {
  /** The longest pause between two readings. */
  readonly everyMs: number;
  /** Withholds what was withheld when the ledger was last used. Call it before the first request is served. */
  recall(): Promise<void>;
  /** Reads the host once, and makes the moves that the readings prove. */
  look(): Promise<void>;
}

/** The engine that was read last. `since`: when it took the place of another one; null: it was the first. */
interface KnownEngine {
  readonly id: string;
  readonly since: number | null;
}

const keyOf = ({ subnet, ip, generation }: Pick<Allocation, 'subnet' | 'ip' | 'generation'>): string =>
  `${subnet} ${ip} ${generation}`;

export function createWitnessed(
  context: IpamContext,
  { enis, cache, warm }: WitnessedParts,
  { witness, mode, everyMs, ageMs }: WitnessOptions,
): Witnessed {
  const { store, cloud, clock, deadlineClock, log } = context;
  /** When this process first saw a holding unseen, by its own clock: the store's may be set. */
  const unseenAt = new Map<string, number>();
  /** Leaks that were reported, so that each is logged once. */
  const reported = new Set<string>();
  let lastIncomplete: string | null = null;
  /** Why the leaks of each ENI were kept last. */
  const keptFor = new Map<EniId, string>();

  async function recall(): Promise<void> {
    const { rows: sightings } = await store.sightings((await here()).map(eni => eni.id));
    cache.withhold(
      sightings.flatMap(({ usedSince, finding, ...state }) =>
        usedSince === null ? [] : [{ row: state, finding: finding ?? '' }],
      ),
    );
  }

  const here = async (): Promise<LedgerEni[]> => oursIn(await store.enis(), context.host.instance);

  async function look(): Promise<void> {
    const known = await here();
    if (known.length === 0) return;
    const startedAt = deadlineClock();
    // The ledger is read first: what the host shows afterwards is newer.
    const { rows: before, now } = await store.sightings(known.map(eni => eni.id));
    const rows: Allocation[] = [];
    for (const { id } of known) rows.push(...(await store.onEni(id)).rows);
    const reading = await witness.read();
    const engineSince = reading.engine === null ? null : await noteEngine(reading.engine, now);
    const verdict = weigh({ rows, before, now, enis: known, reading, engineSince, ageMs });
    cache.withhold(verdict.withheld);
    await store.saveSightings(verdict.save, []);
    await move(verdict);
    await store.saveSightings([], verdict.forget);
    noteUnseen(before, verdict);
    sayIncomplete(reading, verdict);
    for (const [eni, leaks] of Map.groupBy(verdict.leaks.filter(isOldHere), ({ row }) => row.iface))
      await end(known, eni, leaks, startedAt);
    if (verdict.postponed > 0)
      log('info', 'more holdings without a user, left for the next reading', { count: verdict.postponed });
  }

  /** Another engine's id means that Docker's data was wiped. Returns when that was; null: it was not. */
  async function noteEngine(id: string, now: number): Promise<number | null> {
    const text = await store.fact(ENGINE);
    const known: KnownEngine | null = text === null ? null : JSON.parse(text);
    if (known?.id === id) return known.since;
    const after: KnownEngine = { id, since: known === null ? null : now };
    await store.noteFact(ENGINE, JSON.stringify(after));
    return after.since;
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

  function noteUnseen(before: readonly LedgerSighting[], { save, forget }: Verdict): void {
    const replaced = new Set([...save, ...forget].map(one => `${one.subnet} ${one.ip}`));
    const kept = before.filter(one => !replaced.has(`${one.subnet} ${one.ip}`));
    const unseen = new Set([...kept, ...save].filter(one => one.unseenSince !== null).map(unseenKeyOf));
    for (const key of unseenAt.keys()) if (!unseen.has(key)) unseenAt.delete(key);
    for (const key of unseen) if (!unseenAt.has(key)) unseenAt.set(key, clock());
  }
  const unseenKeyOf = (one: LedgerSighting): string => `${keyOf(one)} ${one.unseenSince}`;

  const isOldHere = ({ row, unseenSince }: Leak): boolean =>
    clock() - (unseenAt.get(`${keyOf(row)} ${unseenSince}`) ?? clock()) >= ageMs;

  function sayIncomplete({ incomplete }: HostReading, verdict: Verdict): void {
    const why = incomplete ?? verdict.incomplete;
    if (why !== null && why !== lastIncomplete)
      log('info', 'host not read completely, no holding ends by evidence', { error: why });
    lastIncomplete = why;
  }

  /** Ends the leaks of an ENI that EC2 still shows as it was, and that no ipvlan slave has. */
  async function end(
    known: readonly LedgerEni[],
    id: EniId | null,
    leaks: readonly Leak[],
    startedAt: number,
  ): Promise<void> {
    const eni = known.find(one => one.id === id);
    if (eni === undefined) return;
    if (mode === 'report') {
      for (const leak of leaks) report(leak);
      return;
    }
    const free = await confirmed(eni, leaks);
    if (deadlineClock() - startedAt > READING_VALID_MS) return;
    const changes = free.map(
      ({ row }): Change => ({
        row,
        move: row.missingSince === null ? 'release' : 'retire',
        releaseId: row.releaseId,
      }),
    );
    const moved = changes.length === 0 ? [] : await store.move(changes);
    for (const row of moved) ended(eni, row, leaks);
    if (moved.length > 0) await count(moved.length);
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

  /** Returns the leaks that the last two questions leave: the attachment of the ENI, of EC2, and the address, of the
   *  kernel. */
  async function confirmed(eni: LedgerEni, leaks: readonly Leak[]): Promise<readonly Leak[]> {
    try {
      const [seen] = await cloud.enisById([eni.id]);
      // EC2 never uses the id of an attachment again.
      if (seen?.attachment !== eni.attachment) return keep(eni.id, 'EC2 shows another attachment');
      const ips = leaks.map(({ row }) => row.ip);
      const probed = await witness.probe(eni.mac ?? '', ips);
      keptFor.delete(eni.id);
      if (probed.kind === 'not ipvlan') return leaks;
      return leaks.filter(({ row }) => probed.free.includes(row.ip));
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      return keep(eni.id, error.line);
    }
  }

  function keep(eni: EniId, why: string): [] {
    if (keptFor.get(eni) !== why) log('warn', 'holdings without a user kept', { eni, error: why });
    keptFor.set(eni, why);
    return [];
  }

  function ended(eni: LedgerEni, row: Allocation, leaks: readonly Leak[]): void {
    const leak = leaks.find(one => one.row.ip === row.ip);
    log('warn', 'holder ended: nothing on its host uses the address', {
      ...{ cause: 'evidence', eni: row.iface, ip: row.ip, holder: leak?.row.holder ?? null },
      readings: leak?.readings,
    });
    cache.note(row);
    const home = enis.recall(eni.id);
    if (home !== null) warm.released({ home, range: null });
  }

  async function count(more: number): Promise<void> {
    const before = Number((await store.fact(ENDED_BY_EVIDENCE)) ?? 0);
    await store.noteFact(ENDED_BY_EVIDENCE, String(before + more));
  }

  return { everyMs, recall, look };
}
