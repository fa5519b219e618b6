/** The interface of an ENI on this host: whether it is up, and has no address. */
import { broken, MKNET, ok, type Verdict, warning } from '../finding.ts';

/** A network interface, as `ip` shows it. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mac: string;
  readonly isUp: boolean;
  readonly hasCarrier: boolean;
  /** The bridge or bond that it is a part of. */
  readonly master: string | null;
  /** The interface that it is on. */
  readonly parent: string | null;
  /** `ipvlan`, `macvlan` and so on; null: none that matters here. */
  readonly kind: string | null;
  readonly mode: string | null;
  /** Global addresses with their mask length. */
  readonly addresses: readonly string[];
}

const KINDS = /\\\s+(ipvlan|ipvtap|macvlan|macvtap|vlan)\b(?:\s+mode (\S+))?/;

/** From the outputs of `ip -oneline -details link show` and `ip -oneline address show scope global`. */
export function linksIn(links: string, addresses: string): Link[] {
  const byName = new Map<string, string[]>();
  for (const [, name = '', address = ''] of addresses.matchAll(/^\d+: (\S+)\s+inet6? (\S+)/gm))
    byName.set(name, [...(byName.get(name) ?? []), address]);
  return links.split('\n').flatMap(line => {
    const [, index, name = '', parent = null, flags = ''] =
      line.match(/^(\d+): ([^:@\s]+)(?:@([^:\s]+))?: <([^>]*)>/) ?? [];
    if (index === undefined) return [];
    const [, kind = null, mode = null] = line.match(KINDS) ?? [];
    return [
      {
        index: Number(index),
        name,
        mac: line.match(/ link\/ether ([0-9a-f:]{17})\b/)?.[1] ?? '',
        isUp: flags.split(',').includes('UP'),
        hasCarrier: flags.split(',').includes('LOWER_UP'),
        master: line.match(/ master (\S+)/)?.[1] ?? null,
        parent,
        kind,
        mode,
        addresses: byName.get(name) ?? [],
      },
    ];
  });
}

/** The interface with the MAC address of an ENI. Slaves of ipvlan and vlans have the MAC address of their parent. */
export const interfaceOf = (links: readonly Link[], mac: string): Link | null =>
  links.find(link => link.mac === mac && !['ipvlan', 'ipvtap', 'vlan'].includes(link.kind ?? '')) ?? null;

/** `primary`: the ENI's primary address; null: not known. `isHosts`: it is the ENI that the host itself uses. */
export function judgeInterface(
  link: Link | null,
  mac: string,
  primary: string | null,
  isHosts: boolean,
): Verdict[] {
  if (link === null)
    return [
      broken(
        `no interface has the MAC address ${mac}`,
        'wait some seconds after an attachment; else see `ip link` and dmesg, or attach the ENI anew',
      ),
    ];
  const { name, addresses } = link;
  const found: Verdict[] = [];
  if (!link.isUp)
    found.push(broken(`${name} is down`, `${MKNET} ${name}, or at boot ${MKNET} --persist ${name}`));
  else if (!link.hasCarrier)
    found.push(warning(`${name} is up, but has no carrier`, 'see that the ENI is attached, and dmesg'));
  if (addresses.length > 0 && !isHosts) {
    const fix = `${MKNET} --persist ${name}, then: ip address flush dev ${name}`;
    const shown = `${name} has ${addresses.join(', ')}`;
    // No container gets the primary address, or one of IPv6.
    const isHarmless = addresses.every(one => one.includes(':') || one.split('/')[0] === primary);
    found.push(
      isHarmless
        ? warning(`${shown}: the host takes part in the subnet of the containers`, fix)
        : broken(`${shown}: the host answers for addresses of containers`, fix),
    );
  }
  return found.length > 0 ? found : [ok(`${name} is up${isHosts ? '' : ' and has no address'}`)];
}
