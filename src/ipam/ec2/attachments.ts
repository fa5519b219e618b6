/**
 * Decides whether an ENI is attached to the instance of a client, by EC2's word.
 *
 * What EC2 has shown counts for a minute, a yes as well as a no: an ENI that moves takes its rights with it. So that a
 * container start waits for no read, the ENIs in use are read again in the background before that. While EC2 is away
 * longer than a minute nobody knows whose an ENI is: requests wait for EC2 as they do for an assign, and fail at their
 * deadline. Releases of addresses that were given to the same instance need no such proof and go on.
 */
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId, InstanceId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** How long what EC2 has shown of an ENI counts, in milliseconds. */
export const SHOWN_FOR_MS = 60_000;
/** After this age an ENI in use is read again in the background: the next round of the keeper might be too late. */
const REFRESH_AFTER_MS = 35_000;
/** An ENI is in use for this long after its last call, so that the first start of a day waits for no read either. */
const USED_FOR_MS = 24 * 3_600_000;
/** A client that calls for an ENI which is not its own causes one read in this time, in milliseconds. */
export const MISMATCH_EVERY_MS = 10_000;
/** The ENIs of others for which one instance may cause reads in that time, and the ENIs that it may have looked up at
 *  once; no instance has more. Further calls are refused without a read: EC2 counts the calls of the whole account. */
export const MISMATCHES_MAX = 8;
const LOOKED_UP_MAX = 64;
/** Calls of one moment share a read. */
const GATHER_MS = 5;
/** Reads at a time. While so many hang, further ENIs wait for the next one. */
const READS_MAX = 4;
/** At this size the oldest entry is dropped. */
const REMEMBERED_MAX = 10_000;

export interface Attachments {
  /** Whether EC2 has shown the ENI on the instance within the last minute, and on no other since. */
  isShown(eni: EniId, instance: InstanceId): boolean;
  /** Resolves when EC2 has shown the ENI on the instance within the last minute. Throws denied when it shows it
   *  elsewhere, and ec2-… when EC2 does not say. */
  prove(eni: EniId, instance: InstanceId): Promise<void>;
  /** Reads the ENIs in use whose last reading is about to be too old. The keeper calls it, with its own urgency. */
  refresh(context: Pick<IpamContext, 'cloud'>): Promise<void>;
}

interface Shown {
  readonly instance: InstanceId | null;
  readonly readAt: number;
}
/** A client's look at one ENI. One that ends well is forgotten. */
interface Look {
  readonly at: number;
  readonly ended: Promise<void>;
  isDenied: boolean;
}

export function createAttachments(context: IpamContext): Attachments {
  const now = () => context.deadlineClock();
  const shown = new Map<EniId, Shown>();
  const usedAt = new Map<EniId, number>();
  const looks = new Map<InstanceId, Map<EniId, Look>>();
  const reads = createReads(context, record);

  function record(id: EniId, instance: InstanceId | null, readAt: number): void {
    const known = shown.get(id);
    if (known === undefined || known.readAt <= readAt) remember(shown, id, { instance, readAt });
  }

  function recent(eni: EniId): Shown | null {
    const known = shown.get(eni);
    return known !== undefined && now() - known.readAt < SHOWN_FOR_MS ? known : null;
  }

  function isShown(eni: EniId, instance: InstanceId): boolean {
    const is = recent(eni)?.instance === instance;
    if (is) remember(usedAt, eni, now());
    return is;
  }

  async function prove(eni: EniId, instance: InstanceId): Promise<void> {
    if (isShown(eni, instance)) return;
    const ofInstance = looksOf(instance);
    const underWay = ofInstance.get(eni);
    if (underWay !== undefined) return await underWay.ended;
    const denied = [...ofInstance.values()].filter(({ isDenied }) => isDenied).length;
    if (denied >= MISMATCHES_MAX || ofInstance.size >= LOOKED_UP_MAX) throw tooMany(eni, instance);
    const look: Look = { at: now(), ended: judge(eni, instance), isDenied: false };
    ofInstance.set(eni, look);
    try {
      await look.ended;
      if (ofInstance.get(eni) === look) ofInstance.delete(eni);
    } catch (error) {
      look.isDenied = isError(error, 'denied');
      if (!look.isDenied && ofInstance.get(eni) === look) ofInstance.delete(eni);
      throw error;
    }
  }

  async function judge(eni: EniId, instance: InstanceId): Promise<void> {
    await reads.read(eni).catch(error => {
      throw error instanceof IpamError ? unsaid(eni, instance, error) : error;
    });
    if (isShown(eni, instance)) return;
    const seen = recent(eni);
    if (seen === null) throw unsaid(eni, instance, new IpamError('ec2-unreachable', 'it answered too late'));
    throw elsewhere(eni, seen.instance, instance);
  }

  /** Those of the last ten seconds. */
  function looksOf(instance: InstanceId): Map<EniId, Look> {
    const ofInstance = looks.get(instance) ?? new Map<EniId, Look>();
    remember(looks, instance, ofInstance);
    for (const [eni, { at }] of ofInstance) if (now() - at >= MISMATCH_EVERY_MS) ofInstance.delete(eni);
    return ofInstance;
  }

  async function refresh({ cloud }: Pick<IpamContext, 'cloud'>): Promise<void> {
    for (const [eni, at] of usedAt) if (now() - at >= USED_FOR_MS) usedAt.delete(eni);
    const isDue = (eni: EniId) =>
      now() - (shown.get(eni)?.readAt ?? Number.NEGATIVE_INFINITY) >= REFRESH_AFTER_MS;
    await readInto(record, { ...context, cloud }, [...usedAt.keys()].filter(isDue));
  }

  return { isShown, prove, refresh };
}

type Record = (eni: EniId, instance: InstanceId | null, readAt: number) => void;

/** Reads the ENIs, and records for each what EC2 shows. One that it does not show is attached to nothing. */
async function readInto(
  record: Record,
  { cloud, deadlineClock }: IpamContext,
  enis: readonly EniId[],
): Promise<void> {
  if (enis.length === 0) return;
  const readAt = deadlineClock();
  const seen = new Map((await cloud.enisById(enis)).map(one => [one.id, one.instance]));
  for (const eni of enis) record(eni, seen.get(eni) ?? null, readAt);
}

/** Reads of ENIs that calls wait for. A call never joins a read that was sent before the call came: that one may show
 *  how it was before. */
function createReads(context: IpamContext, record: Record) {
  let next: { readonly enis: Set<EniId>; readonly done: Promise<void> } | null = null;
  const underWay = new Set<Promise<void>>();

  async function send(enis: ReadonlySet<EniId>): Promise<void> {
    await context.wait(GATHER_MS);
    while (underWay.size >= READS_MAX) await Promise.race(underWay);
    next = null;
    const reading = readInto(record, context, [...enis]);
    const ended: Promise<void> = reading.then(
      () => void underWay.delete(ended),
      () => void underWay.delete(ended),
    );
    underWay.add(ended);
    await reading;
  }

  return {
    async read(eni: EniId): Promise<void> {
      if (next === null) {
        const enis = new Set<EniId>();
        next = { enis, done: send(enis) };
      }
      next.enis.add(eni);
      await next.done;
    },
  };
}

/** Sets the entry as the newest. */
function remember<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  const [oldest] = map.size >= REMEMBERED_MAX ? map.keys() : [];
  if (oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}

const elsewhere = (eni: EniId, found: InstanceId | null, instance: InstanceId): IpamError =>
  new IpamError(
    'denied',
    `${eni} is attached to ${found ?? 'no instance'}, and the client certificate names ${instance}`,
    { hint: 'use an ENI of this instance; one that was attached just now is accepted after 10 s' },
  );

const tooMany = (eni: EniId, instance: InstanceId): IpamError =>
  new IpamError(
    'denied',
    `${instance}, which the client certificate names, has called for ${MISMATCHES_MAX} ENIs of others: ${eni} is not looked up`,
    { hint: `try again in ${MISMATCH_EVERY_MS / 1000} s` },
  );

const unsaid = (eni: EniId, instance: InstanceId, why: IpamError): IpamError =>
  new IpamError(
    why.code,
    `EC2 has not said within the last minute that ${eni} is attached to ${instance}, which the client certificate names: ${why.message}`,
    { hint: why.hint || 'try again', cause: why },
  );
