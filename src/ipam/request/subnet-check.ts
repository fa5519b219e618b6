/** Embedded only: reads the whole subnet from EC2 before a request is refused because no address is left. */
import { aborted } from '../../domain/abort.ts';
import { IpamError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** The shortest time between two reads of one subnet. An address that others have left is free after two reads that
 *  are this far apart. */
export const CHECK_EVERY_MS = 60_000;

export interface SubnetChecks {
  /** Reads the whole subnet from EC2 and returns whether rows of the ledger changed. Returns false without a read
   *  if the last one is less than a minute old, and on a central server, which compares its subnets in the
   *  background. Concurrent calls share one read. The signal ends the wait. Errors of EC2 or the store are logged,
   *  not thrown. */
  changed(subnet: SubnetId, signal: AbortSignal): Promise<boolean>;
}

/** `checkSubnet` reads the subnet, records what others have taken or left, and returns how many rows changed. */
export function createSubnetChecks(
  context: IpamContext,
  checkSubnet: (context: IpamContext, subnet: SubnetId) => Promise<number>,
): SubnetChecks {
  const { clock, log } = context;
  const begunAt = new Map<SubnetId, number>();
  const underWay = new Map<SubnetId, Promise<boolean>>();

  async function look(subnet: SubnetId): Promise<boolean> {
    try {
      return (await checkSubnet(context, subnet)) > 0;
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      log('warn', 'subnet not read before a refusal', { subnet, error: error.line });
      return false;
    }
  }

  async function changed(subnet: SubnetId, signal: AbortSignal): Promise<boolean> {
    if (context.host.instance === null) return false;
    let looking = underWay.get(subnet);
    if (looking === undefined) {
      if (clock() - (begunAt.get(subnet) ?? Number.NEGATIVE_INFINITY) < CHECK_EVERY_MS) return false;
      begunAt.set(subnet, clock());
      looking = look(subnet).finally(() => underWay.delete(subnet));
      underWay.set(subnet, looking);
    }
    return await Promise.race([looking, aborted(signal).then(() => false)]);
  }

  return { changed };
}
