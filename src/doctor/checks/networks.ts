/** Who else uses the interface of an ENI: Docker's networks, and interfaces of the host. */
import type { DockerNetworkInfo } from '../../witness/docker-client.ts';
import { broken, MKNET, ok, type Verdict, warning } from '../finding.ts';
import type { Link } from './links.ts';
import type { HostEni } from './metadata.ts';

export const DRIVER = 'ec2-ipam';

/** What Docker's networks say of the ENI, whose interface is `link`. */
export function judgeNetworks(
  networks: readonly DockerNetworkInfo[],
  eni: HostEni,
  link: Link | null,
): Verdict[] {
  const parent = link?.name ?? null;
  const ours = networks.filter(one => one.ipamDriver === DRIVER && one.eni === eni.id);
  const others = networks.filter(one => !ours.includes(one) && parent !== null && one.parent === parent);
  const found: Verdict[] = [];
  for (const one of ours) {
    const remake = `docker network rm ${one.name}, then: ${MKNET} -n ${one.name} ${parent ?? ''}`;
    if (parent !== null && one.parent !== parent)
      found.push(
        broken(
          `network ${one.name} is for ${eni.id}, but its parent is ${one.parent}, not ${parent}`,
          remake,
        ),
      );
    if (one.driver !== 'ipvlan')
      found.push(broken(`network ${one.name} has the driver ${one.driver}, whose frames EC2 drops`, remake));
    else if (one.mode !== null && one.mode !== 'l2')
      found.push(
        warning(
          `network ${one.name} has the mode ${one.mode}: the host routes for its containers`,
          `${remake} -m l2`,
        ),
      );
  }
  for (const one of others)
    found.push(
      broken(
        `${parent} is the parent of network ${one.name} (driver ${one.driver}, IPAM ${one.ipamDriver}${one.eni === null ? '' : ` for ${one.eni}`})`,
        `docker network rm ${one.name}: an interface can have one network`,
      ),
    );
  if (found.length > 0) return found;
  return ours.length > 0
    ? [ok(`${ours.map(({ name }) => name).join(', ')} is on ${parent ?? eni.id}, and no other network`)]
    : [warning(`no Docker network is on ${parent ?? eni.id} yet`, `${MKNET} --persist ${parent ?? ''}`)];
}

/** Interfaces of the host itself that are in the way of ipvlan. `mode`: of the network; null: none. */
export function judgeSlaves(links: readonly Link[], link: Link, mode: string | null): Verdict[] {
  const { name, master } = link;
  const found: Verdict[] = [];
  if (master !== null)
    found.push(
      broken(
        `${name} is a part of ${master}`,
        `ip link set dev ${name} nomaster, and take it out of the settings of ${master}`,
      ),
    );
  for (const one of links.filter(({ parent }) => parent === name)) {
    const fix = `ip link delete ${one.name}`;
    if (one.kind === 'macvlan' || one.kind === 'macvtap')
      found.push(broken(`${one.name} is a ${one.kind} on ${name}, which then takes no ipvlan`, fix));
    if ((one.kind === 'ipvlan' || one.kind === 'ipvtap') && one.mode !== (mode ?? 'l2'))
      found.push(
        broken(
          `${one.name} is an ipvlan on ${name} in mode ${one.mode}, which all its slaves then have`,
          fix,
        ),
      );
  }
  return found;
}
