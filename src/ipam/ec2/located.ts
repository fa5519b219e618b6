/** Embedded: finds out whether an ENI is on this instance, before addresses are assigned to it. */
import { LATE_READS_MS } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';
import { notOurs } from './enis.ts';
import { noAnswer, resultOf } from './intents.ts';
import { noteObserved } from './survey.ts';

/** Embedded: how long, in milliseconds, a read that shows the ENI on this instance is taken as current. Longer than
 *  the time between two comparisons while addresses change. */
const ATTACHED_MS = 90_000;
/** Embedded: how long, in milliseconds, such a read counts while EC2 does not answer a new one. */
const LAST_SHOWN_MS = 600_000;
/** The longest wait for EC2 to show where an ENI is, in milliseconds. */
const LOCATE_MS_MAX = 1_000;

/** Embedded: throws if the ENI is not on this instance, by a recent read or a new one. On another instance it
 *  belongs to the ledger there. If EC2 does not answer in time, a reading of the last ten minutes counts. A new one
 *  also shows what others have put on the ENI, which is marked as occupied. */
export async function refuseElsewhere(context: IpamContext, eni: EniId): Promise<void> {
  const { store, cloud, wait } = context;
  const { instance } = context.host;
  if (instance === null) return;
  const known = await store.eni(eni);
  const { now } = await store.onEni(eni);
  const ageMs = Math.abs(now - (known?.attachmentSeenAt ?? 0));
  const isKnown = known?.instance === instance;
  if (isKnown && ageMs < ATTACHED_MS) return;
  const look = cloud.enisById([eni]).then(async ([seen]) => {
    if (seen?.instance !== instance) return seen?.instance ?? null;
    await noteObserved(context, [seen]);
    await store.noteAttachments([seen], now);
    return instance;
  });
  const over = new AbortController();
  const late = wait(LOCATE_MS_MAX, over.signal).then(() => noAnswer(eni));
  const shown = await Promise.race([resultOf(look), late]).finally(() => over.abort());
  if (shown === instance) return;
  if (shown instanceof IpamError) {
    if (isKnown && ageMs < LAST_SHOWN_MS) return;
    throw shown;
  }
  if (shown === null && isKnown && ageMs < LATE_READS_MS)
    throw new IpamError('ec2-unreachable', `EC2 does not show ${eni} on ${instance}`, { hint: 'try again' });
  throw notOurs(eni, context);
}
