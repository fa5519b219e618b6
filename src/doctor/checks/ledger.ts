/** The ledger of this host, or the one that it shares. */
import { type IpamError, isError } from '../../domain/error.ts';
import type { EniId, InstanceId } from '../../domain/ids.ts';
import type { Store } from '../../store/store.ts';
import { broken, ok, type Verdict, warning } from '../finding.ts';
import type { Ready } from './ec2.ts';
import { judgeStoreClock } from './ec2.ts';

export interface LedgerParts {
  readonly store: Pick<Store, 'outdated' | 'servers' | 'onEni' | 'eni'>;
  /** For its name. */
  readonly place: string;
  /** An embedded ledger is a file, and has the clock of this host. */
  readonly isEmbedded: boolean;
  /** False: an embedded one that was not made yet. */
  readonly exists: boolean;
  /** The instance that an embedded one is of; null: none. */
  owner(): Promise<InstanceId | null>;
}

/** `instance`: this one; null: not known. */
export async function judgeLedger(
  ledger: LedgerParts,
  instance: InstanceId | null,
  timeOfDay: () => number,
): Promise<Verdict[]> {
  const { store, place, isEmbedded } = ledger;
  if (!ledger.exists) return [ok(`there is no ledger at ${place} yet: serve makes it`)];
  try {
    const outdated = await store.outdated();
    if (outdated !== null)
      return [broken(`the ledger at ${place} cannot be used: ${outdated}`, 'ec2-ipam migrate')];
    const { now } = await store.servers();
    const found = isEmbedded ? [] : [judgeStoreClock(timeOfDay() - now)];
    const owner = await ledger.owner();
    return owner === null || instance === null || owner === instance
      ? [ok(`the ledger at ${place} answers`), ...found]
      : [
          warning(
            `the ledger at ${place} is that of ${owner}`,
            'start `ec2-ipam serve` here: it sets that aside',
          ),
          ...found,
        ];
  } catch (error) {
    if (!isError(error, 'store-down', 'unavailable', 'bad-request', 'conflict')) throw error;
    const { message, hint }: IpamError = error;
    return [
      broken(`the ledger at ${place} does not answer: ${message}`, hint || 'see --store and the database'),
    ];
  }
}

/** The ready addresses of the ENI; null where the ledger does not know it, or does not answer. */
export async function readyOn(ledger: LedgerParts | null, eni: EniId): Promise<Ready> {
  if (ledger === null || !ledger.exists) return null;
  try {
    if ((await ledger.store.outdated()) !== null || (await ledger.store.eni(eni)) === null) return null;
    const { rows } = await ledger.store.onEni(eni);
    return rows.filter(({ status }) => status === 'ready').length;
  } catch {
    return null;
  }
}
