/** Embedded, a look at the whole subnet before a request hears that there is no address left. */
import { aborted } from '../../domain/abort.ts';
import { IpamError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** Between two such looks at one subnet: what others have left is free after two looks that are this far apart. */
export const GLANCE_EVERY_MS = 60_000;

export interface Glances {
  /** Reads the whole subnet, unless that was done within a minute or the ledger is central, which has it read all the
   *  time; returns whether the ledger says something else now. The signal ends the wait for it. Never throws: it is a
   *  second opinion. All who ask meanwhile share one read. */
  changed(subnet: SubnetId, signal: AbortSignal): Promise<boolean>;
}

/** `glance` reads the subnet, writes down what others have taken or left, and returns how many rows changed. */
export function createGlances(
  context: IpamContext,
  glance: (context: IpamContext, subnet: SubnetId) => Promise<number>,
): Glances {
  const { clock, log } = context;
  const begunAt = new Map<SubnetId, number>();
  const underWay = new Map<SubnetId, Promise<boolean>>();

  async function look(subnet: SubnetId): Promise<boolean> {
    try {
      return (await glance(context, subnet)) > 0;
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      log('warn', 'subnet not read before a refusal', { subnet, error: error.line });
      return false;
    }
  }

  async function changed(subnet: SubnetId, signal: AbortSignal): Promise<boolean> {
    if (context.instance === null) return false;
    let looking = underWay.get(subnet);
    if (looking === undefined) {
      if (clock() - (begunAt.get(subnet) ?? Number.NEGATIVE_INFINITY) < GLANCE_EVERY_MS) return false;
      begunAt.set(subnet, clock());
      looking = look(subnet).finally(() => underWay.delete(subnet));
      underWay.set(subnet, looking);
    }
    return await Promise.race([looking, aborted(signal).then(() => false)]);
  }

  return { changed };
}
