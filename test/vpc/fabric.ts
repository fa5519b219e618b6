/**
 * The wire between the instances, in the network namespace of this process. It carries what the simulator's VPC carries
 * at the moment, and drops what EC2 drops. A bridge is a subnet, a port of it an ENI.
 * - The bridge answers ARP requests with the MAC address of the ENI that carries the address now, and forwards none. For
 *   an address that no ENI carries there is no answer.
 * - A frame is accepted if its source is the MAC address and an address of its port's ENI.
 * - A frame is delivered to the ENI that has both its destination MAC address and its destination address.
 * - The router forwards nothing between the two tenants' subnets, as their access lists demand.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { formatCidr, routerOf } from '../../src/domain/address.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Network } from '../../src/simulator/model/network.ts';
import { type Eni, ipv4sOf, type Subnet } from '../../src/simulator/model/records.ts';

const MTU = 9001;
const ROUTER_MAC = '02:ff:ff:ff:ff:01';

// Drop counters, by reason. `nobody` is the router's, for an address that no ENI carries: like EC2 it says nothing then.
// Fragments are dropped so that a long packet arrives only if the MTU of all links allows it.
const RULES = (tenants: readonly string[]) => `
table bridge vpc {
  counter foreign-mac { }
  counter foreign-source { }
  counter foreign-arp { }
  counter stale-neighbour { }
  counter not-ipv4 { }
  counter fragments { }
  set ports { type ifname . ether_addr; }
  set sources { type ifname . ether_addr . ipv4_addr; }
  set carried { type ether_addr . ipv4_addr; }
  chain in {
    type filter hook prerouting priority -300; policy drop;
    iifname . ether saddr != @ports counter name foreign-mac drop
    ether type ip ip frag-off & 0x3fff != 0 counter name fragments drop
    ether type arp iifname . arp saddr ether . arp saddr ip @sources accept
    ether type ip iifname . ether saddr . ip saddr @sources accept
    ether type arp counter name foreign-arp drop
    ether type ip counter name foreign-source drop
    counter name not-ipv4 drop
  }
  chain across {
    type filter hook forward priority 0; policy drop;
    ether type arp drop
    ether daddr . ip daddr @carried accept
    counter name stale-neighbour drop
  }
  chain out {
    type filter hook output priority 0; policy drop;
    arp operation reply accept
    ether daddr . ip daddr @carried accept
  }
}
table ip vpc {
  counter between-tenants { }
  counter nobody { }
  set carried { type ipv4_addr; }
  chain router {
    type filter hook forward priority 0; policy accept;
${tenants.map((one, index) => `    ip saddr ${one} ip daddr { ${tenants.toSpliced(index, 1).join(', ')} } counter name between-tenants drop`).join('\n')}
    oifname "vpc-*" ip daddr != @carried counter name nobody drop
  }
}`;

interface Port {
  readonly name: string;
  readonly bridge: string;
  readonly mac: string;
}

export class Fabric {
  readonly #network: Network;
  readonly #bridges = new Map<string, string>();
  readonly #ports = new Map<EniId, Port>();
  readonly #carried = new Map<EniId, Set<string>>();
  readonly #failures: string[] = [];

  /** `tenants`: subnets that don't reach each other. */
  constructor(network: Network, tenants: readonly Subnet[]) {
    this.#network = network;
    const noIpv6 = ['all', 'default'].map(name => `net.ipv6.conf.${name}.disable_ipv6=1`);
    run('sysctl', ['-qw', ...noIpv6, 'net.ipv4.ip_forward=1']);
    run('nft', ['-f', '-'], RULES(tenants.map(({ cidr }) => formatCidr(cidr))));
    for (const subnet of network.subnets()) this.#addBridge(subnet);
    // The simulator is in the middle of a change: what fails here must not undo half of that.
    network.watch(id => {
      try {
        this.#follow(id);
      } catch (error) {
        this.#failures.push((error as Error).message);
      }
    });
  }

  /** Makes the ENI's link into the network namespace of a process: down, MTU 1500, no address, as at a boot. */
  plug(id: EniId, interface_: string, pid: number): void {
    const { mac, subnet } = this.#network.eni(id);
    const port = { name: `eni-${id.slice(-4)}`, bridge: this.#bridges.get(subnet) ?? '', mac };
    const { name, bridge } = port;
    ip(
      `link add ${name} mtu ${MTU} type veth peer name ${interface_} netns ${pid} address ${mac} mtu 1500`,
      `link set ${name} master ${bridge} up`,
      `link set ${name} type bridge_slave learning off flood off mcast_flood off bcast_flood off proxy_arp on`,
    );
    run('bridge', ['fdb', 'replace', mac, 'dev', name, 'master', 'static']);
    nft(`add element bridge vpc ports { "${name}" . ${mac} }`);
    this.#ports.set(id, port);
    this.#follow(id);
  }

  unplug(id: EniId): void {
    const port = this.#ports.get(id);
    if (port === undefined) return;
    this.#carry(id, port, new Set());
    this.#ports.delete(id);
    nft(`delete element bridge vpc ports { "${port.name}" . ${port.mac} }`);
    spawnSync('ip', ['link', 'del', port.name]); // may be gone with the other end
  }

  /** Throws when the wire could not follow a change. */
  check(): void {
    if (this.#failures.length > 0) throw new Error(`the wire did not follow: ${this.#failures}`);
  }

  /** What the kernel carries: `MAC address`. */
  carried(): string[] {
    const elements = listed('set', 'bridge', 'vpc', 'carried').flatMap(({ set }) => set?.elem ?? []);
    return elements.map(({ concat }) => concat.join(' '));
  }

  /** Frames dropped so far, by reason. */
  drops(): Record<string, number> {
    const counters = ['bridge', 'ip'].flatMap(family => listed('counters', 'table', family, 'vpc'));
    return Object.fromEntries(counters.flatMap(({ counter: one }) => (one ? [[one.name, one.packets]] : [])));
  }

  #addBridge(subnet: Subnet): void {
    const name = `vpc-${this.#bridges.size}`;
    ip(
      `link add ${name} address ${ROUTER_MAC} mtu ${MTU} type bridge mcast_snooping 0`,
      `address add ${routerOf(subnet.cidr)}/${subnet.cidr.maskLength} dev ${name}`,
      `link set ${name} up`,
    );
    this.#bridges.set(subnet.id, name);
  }

  #follow(id: EniId): void {
    const port = this.#ports.get(id);
    if (port === undefined) return;
    const eni = [...this.#network.enis()].find(one => one.id === id);
    this.#carry(id, port, addressesOf(eni));
  }

  #carry(id: EniId, { name, bridge, mac }: Port, wanted: ReadonlySet<string>): void {
    const had = this.#carried.get(id) ?? new Set();
    const more = [...wanted].filter(address => !had.has(address));
    const less = [...had].filter(address => !wanted.has(address));
    const elements = (verb: string, addresses: readonly string[]) =>
      addresses.flatMap(address => [
        `${verb} element bridge vpc sources { "${name}" . ${mac} . ${address} }`,
        `${verb} element bridge vpc carried { ${mac} . ${address} }`,
        `${verb} element ip vpc carried { ${address} }`,
      ]);
    if (more.length + less.length === 0) return;
    this.#carried.set(id, new Set(wanted));
    // An address without a neighbour entry is not forwarded, or the bridge would learn an entry by itself.
    if (less.length > 0) nft(...elements('delete', less));
    ip(
      ...less.map(address => `neigh del ${address} dev ${bridge}`),
      ...more.map(address => `neigh replace ${address} lladdr ${mac} dev ${bridge} nud permanent`),
    );
    if (more.length > 0) nft(...elements('add', more));
  }
}

const addressesOf = (eni: Eni | undefined): Set<string> =>
  new Set(eni === undefined || eni.attachment === null ? [] : ipv4sOf(eni));

const ip = (...commands: string[]): void => void run('ip', ['-batch', '-'], `${commands.join('\n')}\n`);
const nft = (...commands: string[]): void => void run('nft', ['-f', '-'], `${commands.join('\n')}\n`);

// Waits for its end: an address works on the wire before EC2's caller hears of it, and stops before.
const run = (command: string, args: readonly string[], input = ''): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe', input });

interface Listed {
  readonly set?: { readonly elem?: { readonly concat: string[] }[] };
  readonly counter?: { readonly name: string; readonly packets: number };
}
const listed = (...what: string[]): Listed[] => JSON.parse(run('nft', ['-j', 'list', ...what])).nftables;
