/** The command `hosts`: who enrolled and who was seen; revokes hosts and allows them again. */
import { IpamError } from '../../domain/error.ts';
import type { Host } from '../../domain/host.ts';
import { type InstanceId, parseInstanceId } from '../../domain/ids.ts';
import type { Store } from '../../store/store.ts';
import { readIn, stateOf } from '../../views/hosts.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { ago, print, table } from '../terminal/output.ts';

export const hosts = command({
  name: 'hosts',
  summary: 'list the hosts that enrolled; revoke one, or allow it again',
  usage: '[revoke|allow INSTANCE]',
  args: { min: 0, max: 2 },
  settings: STORE_SETTINGS,
  options: { json: JSON_OPTION },
  help: `A revoked host is disconnected within seconds. Its certificates are refused, and it cannot enrol. Once it is allowed
it enrols anew; a certificate that was made by hand is accepted again.
`,
  async run({ config, args, options, io, log, assemble }) {
    const order = orderIn(args);
    const { store } = await assemble(config, log);
    try {
      const outdated = await store.outdated();
      if (outdated !== null) throw new IpamError('unavailable', outdated);
      if (order === null) {
        const { now, rows } = await store.hosts();
        const witnesses = new Map((await store.witnesses()).rows.map(one => [one.instance, one]));
        const list = rows
          .toSorted((a, b) => (a.instance < b.instance ? -1 : 1))
          .map(host => ({ ...host, state: stateOf(host, now), ...readIn(witnesses.get(host.instance)) }));
        print(io.out, options.json, { now, hosts: list }, tableOf(list, now));
      } else io.out.write(await carryOut(order, store));
      return 0;
    } finally {
      await store.close();
    }
  },
});

interface Order {
  readonly action: 'revoke' | 'allow';
  readonly instance: InstanceId;
}

/** Null: the hosts are listed. */
function orderIn([action, name, ...more]: readonly string[]): Order | null {
  if (action === undefined) return null;
  if ((action !== 'revoke' && action !== 'allow') || name === undefined || more.length > 0)
    throw new IpamError('bad-request', 'hosts takes no argument, or revoke or allow and one instance', {
      hint: 'such as ec2-ipam hosts revoke i-0123abcd',
    });
  return { action, instance: parseInstanceId(name, 'INSTANCE') };
}

async function carryOut({ action, instance }: Order, store: Store): Promise<string> {
  if (action === 'revoke') {
    await store.revokeHost(instance);
    return `${instance} is revoked: servers disconnect it within seconds\n`;
  }
  if (!(await store.allowHost(instance)))
    throw new IpamError('conflict', `${instance} is not revoked`, { hint: 'ec2-ipam hosts lists the hosts' });
  return `${instance} may enrol again\n`;
}

type Listed = Host & { readonly state: string } & ReturnType<typeof readIn>;

const tableOf = (hosts: readonly Listed[], now: number): string =>
  hosts.length === 0
    ? 'no host has enrolled or was seen\n'
    : table(
        ['HOST', 'STATE', 'ENROLLED', 'EXPIRES', 'SEEN', 'REVOKED', 'READ', 'NOT COMPLETE'],
        hosts.map(({ instance, state, enrolledAt, expiresAt, seenAt, revokedAt, readAt, incomplete }) => [
          instance,
          state,
          since(enrolledAt, now),
          expiresAt === null || expiresAt <= now ? '-' : `in ${ago(expiresAt - now)}`,
          since(seenAt, now),
          since(revokedAt, now),
          since(readAt, now),
          incomplete ?? '-',
        ]),
      );

const since = (at: number | null, now: number): string => (at === null ? '-' : `${ago(now - at)} ago`);
