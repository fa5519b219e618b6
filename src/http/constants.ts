/** The answers that depend on nothing. Docker gets them at once, also while the ledger or all servers are away. */
import type { Hono } from 'hono';
import { type Env, json } from './answer.ts';

/** The local and the global address space have one name. Then engines from 27 on do not search for a pool that
 *  overlaps no route of the host: the ENI's subnet always overlaps one. */
const ADDRESS_SPACE = 'ec2-ipam';

/** Adds the three calls that have one answer. */
export function addConstants(app: Hono<Env>): void {
  app.post('/Plugin.Activate', () => json({ Implements: ['IpamDriver'] }));
  app.post('/IpamDriver.GetCapabilities', () =>
    json({ RequiresMACAddress: false, RequiresRequestReplay: false }),
  );
  app.post('/IpamDriver.GetDefaultAddressSpaces', () =>
    json({ LocalDefaultAddressSpace: ADDRESS_SPACE, GlobalDefaultAddressSpace: ADDRESS_SPACE }),
  );
}
