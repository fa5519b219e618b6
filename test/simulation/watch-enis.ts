/** Rules about how an ENI becomes ours. */
import type { EniId } from '../../src/domain/ids.ts';
import type { Process } from '../kit/clock.ts';
import { keyOf, LATE_READ_MS_MAX } from './layout.ts';
import type { Holding, Mirror, Oracle } from './oracle.ts';

/** Whatever was on an ENI for so long was seen when the ENI was read to be adopted. */
const SURELY_SEEN_MS = LATE_READ_MS_MAX + 60_000;

export const ONLY_POOLED = 'an ENI that nobody has pooled is left alone';

/** Embedded, any contact with an ENI that is attached to the instance will do. */
export const mayUse = ({ layout, pooled }: Oracle, { index }: Mirror, id: EniId): boolean =>
  pooled.has(id) || (layout.owners[index] !== null && layout.ports.some(port => port.eni === id));

/** What stands on the ENI that the ledger did not put there is written down before the ENI is used. */
export function watchAdoption(
  oracle: Oracle,
  mirror: Mirror,
  process: Process,
  id: EniId,
  now: number,
): void {
  oracle.demand(mayUse(oracle, mirror, id), ONLY_POOLED, () => `${id} was adopted by ${process.id}`);
  if (process.frozenMs > 0) return; // what it saw may be as old as that
  const network = oracle.network();
  const eni = [...network.enis()].find(one => one.id === id);
  if (eni === undefined) return;
  for (const ip of eni.secondaries) {
    if (oracle.strangers.get(keyOf(eni.subnet, ip)) !== id) continue;
    if (now - (oracle.put.get(`${id} ${ip}`) ?? now - SURELY_SEEN_MS) < SURELY_SEEN_MS) continue;
    oracle.demand(
      mirror.rows.get(keyOf(eni.subnet, ip))?.status !== 'free',
      'what an ENI has is written down before any address of it is offered',
      () => `${id} was adopted with ${ip} on it, which the ledger calls free`,
    );
  }
  if (eni.primary === null) return;
  const primary = mirror.rows.get(keyOf(eni.subnet, eni.primary));
  oracle.demand(
    primary === undefined || (primary.primary && primary.iface === id),
    'the primary address of an ENI is known as such before any address of it is offered',
    () => `${id} was adopted, and ${eni.primary} is ${primary?.status} on ${primary?.iface}`,
  );
}

/** Whether what the container holds is of no use to it any more: its ENI has left the instance whose ledger it is in, or
 *  is gone. Another ledger may give the address in good faith. */
export const hasLeft = (oracle: Oracle, { ledger, eni }: Pick<Holding, 'ledger' | 'eni'>): boolean =>
  oracle.layout.owners[ledger] !== null && !oracle.isHere(ledger, eni);
