/** An ENI with assign calls that had no answer: whether another call may be sent, and whether EC2 shows theirs soon. */
import { aborted } from '../../domain/abort.ts';
import type { EniId } from '../../domain/ids.ts';
import { askedFor } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import { noAnswer } from './intents.ts';

/** The longest wait for one read of an ENI, in milliseconds. */
const FOLLOW_UP_MS_MAX = 20_000;

/** Throws ec2-unknown if calls without an answer forbid another call for the ENI now. `unanswered`: as in `askedFor`. */
export async function stopInDoubt(
  { store }: IpamContext,
  eni: EniId,
  unanswered: ReadonlySet<string>,
): Promise<void> {
  const { rows, now } = await store.onEni(eni);
  if (askedFor(rows, now, unanswered).next === 'none') throw noAnswer(eni);
}

/** Returns whether the next read of a full ENI shows addresses of a call without an answer. */
export async function isSeenSoon(context: IpamContext, eni: EniId, signal?: AbortSignal): Promise<boolean> {
  const { store, followUps, wait, clock } = context;
  const { rows, now } = await store.onEni(eni);
  const newest = Math.max(...rows.filter(row => row.status === 'assigning').map(row => row.movedAt));
  if (followUps === undefined || !Number.isFinite(newest)) return false;
  followUps.watch(eni, clock() - Math.max(now - newest, 0));
  const over = new AbortController();
  const late = wait(FOLLOW_UP_MS_MAX, over.signal).then(() => []);
  const ended = signal === undefined ? late : aborted(signal).then(() => []);
  try {
    return (await Promise.race([followUps.next(eni), late, ended])).length > 0;
  } finally {
    over.abort();
  }
}
