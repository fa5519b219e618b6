/** The hosts: their certificates, when their agents were last seen, and what their witnesses last said. */
import * as v from 'valibot';
import { type Host, isBlocked } from '../domain/host.ts';
import type { LedgerWitness } from '../domain/sighting.ts';
import { nextTurn } from '../store/next-turn.ts';
import type { Store } from '../store/store.ts';
import { count, countOrNull, described, NOW, string, stringOrNull, timeOrNull } from './shapes.ts';

const HOST_STATES = ['enrolled', 'expired', 'revoked', 'by hand', 'embedded'] as const;

const HostLine = v.object({
  instance: string('The id of the instance; empty: that of an embedded server which does not know it.'),
  state: described(
    v.picklist(HOST_STATES),
    '`by hand`: it never enrolled. `embedded`: it is read by a server, and has no certificate.',
  ),
  enrolledAt: timeOrNull('When it enrolled last; null: never.'),
  expiresAt: timeOrNull('When its certificate ends; null: it has none that was enrolled.'),
  revokedAt: timeOrNull('When it was revoked; null: it was not.'),
  seenAt: timeOrNull('When its agent was connected last; null: never.'),
  readAt: timeOrNull('When a reading of what it uses was last saved; null: never.'),
  incomplete: stringOrNull('Why that reading proves no absence; null: it is complete.'),
  tenants: described(v.array(v.string()), 'The tenants of its ENIs.'),
  enis: described(v.array(v.string()), 'The ids of its ENIs.'),
});
export type HostLine = v.InferOutput<typeof HostLine>;

const TenantLine = v.object({
  name: string('The name of the tenant.'),
  quota: countOrNull('How many addresses may count; null: ENIs name the tenant, but it has no quota.'),
  profile: stringOrNull('The instance profile whose hosts are of the tenant; null: none.'),
  used: count('How many addresses count.'),
});

export const HostsView = v.object({
  now: NOW,
  hosts: described(v.array(HostLine), 'By instance.'),
  tenants: described(v.array(TenantLine), 'By name.'),
});
export type HostsView = v.InferOutput<typeof HostsView>;

/** By instance. */
export async function readHosts(store: Store): Promise<HostsView> {
  const { now, rows: hosts } = await store.hosts();
  await nextTurn();
  const { rows: readings } = await store.witnesses();
  await nextTurn();
  const witnesses = new Map<string, LedgerWitness>(readings.map(one => [one.instance, one]));
  const enis = Map.groupBy(await store.enis(), ({ instance }): string => instance ?? '');
  const enrolled = new Map(hosts.map(host => [host.instance as string, host]));
  const names = [...new Set<string>([...enrolled.keys(), ...witnesses.keys()])].sort();
  const lines = names.map((instance): HostLine => {
    const host = enrolled.get(instance);
    const witness = witnesses.get(instance);
    const own = instance === '' ? [] : (enis.get(instance) ?? []);
    return {
      instance,
      state: host === undefined ? 'embedded' : stateOf(host, now),
      ...{ enrolledAt: host?.enrolledAt ?? null, expiresAt: host?.expiresAt ?? null },
      ...{ revokedAt: host?.revokedAt ?? null, seenAt: host?.seenAt ?? null },
      ...readIn(witness),
      tenants: [...new Set(own.flatMap(({ tenant }) => tenant ?? []))].sort(),
      enis: own.map(({ id }) => id).sort(),
    };
  });
  const tenants = (await store.tenants()).map(({ name, quota, profile, used }) => ({
    ...{ name, quota, profile, used },
  }));
  return { now, hosts: lines, tenants };
}

export function stateOf(host: Host, now: number): 'revoked' | 'enrolled' | 'expired' | 'by hand' {
  if (isBlocked(host)) return 'revoked';
  if (host.expiresAt === null) return 'by hand';
  return host.expiresAt > now ? 'enrolled' : 'expired';
}

/** When what the host shows was last told, and why that was not complete. */
export const readIn = (witness: LedgerWitness | undefined): Pick<LedgerWitness, 'readAt' | 'incomplete'> => ({
  readAt: witness?.readAt ?? null,
  incomplete: witness?.incomplete ?? null,
});
