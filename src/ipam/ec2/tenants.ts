/** Which tenant an ENI has whose tag names none: that of the instance profile of its instance. */
import type { CloudEni } from '../../cloud/cloud.ts';
import { IpamError } from '../../domain/error.ts';
import type { InstanceId } from '../../domain/ids.ts';
import type { LedgerEni } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';

type Profiles = ReadonlyMap<InstanceId, string | null>;

/** Returns the ENIs, each with its tenant. EC2 is asked only where a tenant has an instance profile. What EC2 does not
 *  tell stays as it is in the ledger, of which `known` are the records. */
export async function withTenants(
  context: IpamContext,
  enis: readonly CloudEni[],
  known: readonly LedgerEni[],
): Promise<readonly CloudEni[]> {
  const asked = new Set(
    enis.flatMap(eni => (eni.tenant === null && eni.instance !== null ? eni.instance : [])),
  );
  if (asked.size === 0) return enis;
  const tenants = await context.store.tenantProfiles();
  if (tenants.size === 0) return enis;
  const profiles = await profilesOf(context, [...asked]);
  const before = new Map(known.map(eni => [eni.id, eni.tenant]));
  return enis.map(eni => {
    if (eni.tenant !== null || eni.instance === null) return eni;
    const profile = profiles.get(eni.instance);
    if (profile === undefined) return { ...eni, tenant: before.get(eni.id) ?? null };
    return { ...eni, tenant: tenants.get(nameIn(profile)) ?? null };
  });
}

async function profilesOf({ cloud, log }: IpamContext, instances: readonly InstanceId[]): Promise<Profiles> {
  try {
    return await cloud.profiles(instances);
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    log('warn', 'instance profiles not read, tenants kept', { error: error.line });
    return new Map();
  }
}

/** The name in `arn:aws:iam::123456789012:instance-profile/path/name`. */
const nameIn = (arn: string | null): string => arn?.split('/').at(-1) ?? '';
