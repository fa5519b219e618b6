/** Hosts that enrolled, and the nonces of their proofs, in memory. */
import { HOST_KEPT_MS, type Host, isBlocked } from '../domain/host.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Store } from './store.ts';

type MemoryHosts = Pick<Store, 'hosts' | 'enrolHost' | 'noteSeen' | 'revokeHost' | 'allowHost' | 'takeNonce'>;

/** `forgetWitnesses`: forgets the hosts whose last reading was begun before. */
export function createMemoryHosts(
  clock: () => number,
  forgetWitnesses: (before: number) => void,
): MemoryHosts {
  const hosts = new Map<InstanceId, Host>();
  const nonces = new Map<string, { token: string; until: number }>();

  return {
    async hosts(which) {
      const shown = [...hosts.values()].filter(host => which !== 'revoked' || host.revokedAt !== null);
      return { now: clock(), rows: shown };
    },
    async enrolHost(instance, forMs) {
      const now = clock();
      const host = hosts.get(instance) ?? unknownHost(instance);
      if (!isBlocked(host)) hosts.set(instance, { ...host, enrolledAt: now, expiresAt: now + forMs });
      for (const one of hosts.values()) if (isForgotten(one, now)) hosts.delete(one.instance);
      forgetWitnesses(now - HOST_KEPT_MS);
      return hosts.get(instance) ?? host;
    },
    async noteSeen(instances) {
      for (const instance of instances)
        hosts.set(instance, { ...(hosts.get(instance) ?? unknownHost(instance)), seenAt: clock() });
    },
    async revokeHost(instance) {
      const host = hosts.get(instance) ?? unknownHost(instance);
      hosts.set(instance, { ...host, revokedAt: clock(), allowedAt: null });
    },
    async allowHost(instance) {
      const host = hosts.get(instance);
      if (host === undefined || !isBlocked(host)) return false;
      hosts.set(instance, { ...host, allowedAt: clock() });
      return true;
    },
    async takeNonce(value, token, forMs) {
      const now = clock();
      for (const [one, { until }] of nonces) if (until < now) nonces.delete(one);
      const taken = nonces.get(value) ?? { token, until: now + forMs };
      nonces.set(value, taken);
      return taken.token === token;
    },
  };
}

const unknownHost = (instance: InstanceId): Host => ({
  instance,
  enrolledAt: null,
  expiresAt: null,
  seenAt: null,
  revokedAt: null,
  allowedAt: null,
});

const isForgotten = ({ expiresAt, seenAt, revokedAt }: Host, now: number): boolean =>
  revokedAt === null && Math.max(expiresAt ?? 0, seenAt ?? 0) < now - HOST_KEPT_MS;
