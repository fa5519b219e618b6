/** The revoked hosts, as the ledger last had them, and which hosts are connected. */
import { isError } from '../domain/error.ts';
import { type Host, isAccepted } from '../domain/host.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { Store } from '../store/store.ts';

/** How often the ledger is asked who is revoked. */
const LOOK_EVERY_MS = 3_000;
/** How often it is noted that a host is connected. */
const NOTE_EVERY_MS = 60_000;

export interface HostList {
  /** Returns why a certificate of the host is not accepted; null when it is. `issuedAt` is null for one made by hand. */
  refusalOf(instance: InstanceId, issuedAt: number | null): string | null;
  /** Reads who is revoked, and notes who is connected. While the ledger is away, what was read last counts. */
  refresh(connected: ReadonlySet<InstanceId>): Promise<void>;
  /** Does that every few seconds, and calls `changed` after each. Ends with the signal. */
  run(connected: () => ReadonlySet<InstanceId>, changed: () => void, signal: AbortSignal): Promise<void>;
}

export interface HostListDeps {
  readonly store: Pick<Store, 'hosts' | 'noteSeen'>;
  readonly clock: () => number;
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly log: Log;
}

export function createHostList({ store, clock, wait, log }: HostListDeps): HostList {
  let revoked = new Map<InstanceId, Host>();
  const notedAt = new Map<InstanceId, number>();

  async function noteConnected(connected: ReadonlySet<InstanceId>): Promise<void> {
    const now = clock();
    for (const [id, at] of notedAt) if (now - at >= NOTE_EVERY_MS) notedAt.delete(id);
    const fresh = [...connected].filter(id => !notedAt.has(id));
    if (fresh.length === 0) return;
    await store.noteSeen(fresh);
    for (const id of fresh) notedAt.set(id, now);
  }

  async function refresh(connected: ReadonlySet<InstanceId>): Promise<void> {
    const { rows } = await store.hosts('revoked');
    revoked = new Map(rows.map(host => [host.instance, host]));
    await noteConnected(connected);
  }

  return {
    refusalOf(instance, issuedAt) {
      const host = revoked.get(instance);
      if (host === undefined || isAccepted(host, issuedAt)) return null;
      return `the certificate of ${instance} is revoked; ec2-ipam hosts allow ${instance} lets it enrol again`;
    },
    refresh,
    async run(connected, changed, signal) {
      let isAway = false;
      while (!signal.aborted) {
        await wait(LOOK_EVERY_MS, signal);
        if (signal.aborted) return;
        try {
          await refresh(connected());
          isAway = false;
        } catch (error) {
          if (!isError(error, 'store-down')) throw error;
          if (!isAway) log('warn', 'revoked hosts not read', { error: error.line });
          isAway = true;
        }
        changed();
      }
    },
  };
}
