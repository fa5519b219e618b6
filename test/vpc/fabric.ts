/**
 * The wire between the instances, in the network namespace of this process: it carries what the simulator's VPC
 * carries at this moment, and drops what EC2 drops. A bridge is a subnet, a port of it an ENI.
 * - ARP requests are answered by the bridge, with the MAC address of the ENI that carries the address now, and go no
 *   further; for an address that no ENI carries there is no answer.
 * - A frame gets in with the MAC address of its port's ENI and one of that ENI's addresses as source, not otherwise.
 * - A frame gets out to the ENI that has both its destination MAC address and its destination address.
 * - Between the two tenants' subnets the router passes nothing, as their access lists have it.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { formatCidr, routerOf } from '../../src/domain/address.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Network } from '../../src/simulator/model/network.ts';
import { type Eni, ipv4sOf, type Subnet } from '../../src/simulator/model/records.ts';

const MTU = 9001;
const ROUTER_MAC = '02:ff:ff:ff:ff:01';

// Drop counters, by reason. `nobody` is the router's, for an address that no ENI carries: it is silent about that, as
// EC2 is. Fragments are dropped so that a long packet gets through only where all links are long enough for it.
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
    for (const setting of [
      'net.ipv6.conf.all.disable_ipv6=1',
      'net.ipv6.conf.default.disable_ipv6=1',
      'net.ipv4.ip_forward=1',
    ])
      run('sysctl', ['-qw', setting]);
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
    spawnSync('ip', ['link', 'del', port.name]); // gone with the other end, perhaps
  }

  /** Throws when the wire could not follow a change. */
  check(): void {
    if (this.#failures.length > 0) throw new Error(`the wire did not follow: ${this.#failures}`);
  }

  /** What the kernel carries: `MAC address`, sorted. */
  carried(): string[] {
    const text = run('nft', ['-j', 'list', 'set', 'bridge', 'vpc', 'carried']);
    const { nftables } = JSON.parse(text) as { nftables: { set?: { elem?: { concat: string[] }[] } }[] };
    return nftables
      .flatMap(({ set }) => set?.elem ?? [])
      .map(({ concat }) => concat.join(' '))
      .sort();
  }

  /** Frames dropped so far, by reason. */
  drops(): Record<string, number> {
    const counters = ['bridge', 'ip'].flatMap(family => {
      const text = run('nft', ['-j', 'list', 'counters', 'table', family, 'vpc']);
      return (JSON.parse(text) as { nftables: { counter?: { name: string; packets: number } }[] }).nftables;
    });
    return Object.fromEntries(
      counters.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])),
    );
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
    // Nothing passes that has no neighbour entry any more or not yet, else the bridge would learn one by itself.
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
function run(command: string, args: readonly string[], input?: string): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(input === undefined ? {} : { input }),
  });
}
