/** The hosts and the tenants. */
import type { HostsView } from '../views/hosts.ts';
import { Eni, Name, Table, Time } from './parts.tsx';
import { Portions } from './portions.tsx';

export const HostsPage = ({ view: { hosts, tenants } }: { view: HostsView }) => (
  <>
    <h1>Hosts</h1>
    <div data-fresh="hosts">
      {hosts.length === 0 ? (
        <p class="empty">No host has enrolled, and none was read.</p>
      ) : (
        <Table
          what="Hosts"
          head={['instance', 'certificate', 'valid until', 'agent seen', 'host read', 'tenant', 'ENIs']}
        >
          <Portions items={hosts} size={10} show={host => <HostRow host={host} />} />
        </Table>
      )}
    </div>
    <div data-fresh="tenants">
      {tenants.length === 0 ? null : (
        <>
          <h2>Tenants</h2>
          <Table what="Tenants" head={['name', ['used'], ['quota'], 'instance profile']}>
            {tenants.map(({ name, used, quota, profile }) => (
              <tr>
                <th scope="row">
                  <Name text={name} />
                </th>
                <td class="number">{used}</td>
                <td class="number">{quota ?? 'none'}</td>
                <td>
                  <Name text={profile} />
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </div>
  </>
);

const HostRow = ({ host }: { host: HostsView['hosts'][number] }) => (
  <tr>
    <th scope="row" class="mono">
      {host.instance === '' ? 'this machine' : host.instance}
    </th>
    <td>{host.state}</td>
    <td>
      <Time ms={host.revokedAt ?? host.expiresAt} />
    </td>
    <td>
      <Time ms={host.seenAt} />
    </td>
    <td>
      <Time ms={host.readAt} />
      {host.incomplete === null ? null : (
        <div class="soft">
          incomplete: <Name text={host.incomplete} />
        </div>
      )}
    </td>
    <td>
      <Name text={host.tenants.join(', ') || null} />
    </td>
    <td>
      {host.enis.map(id => (
        <div>
          <Eni id={id} />
        </div>
      ))}
    </td>
  </tr>
);
