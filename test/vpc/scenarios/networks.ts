import type { Ipv4 } from '../../../src/domain/address.ts';
import { Container, mustDiffer } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import type { Host } from '../host.ts';
import { type Answer, type Place, pingAll, Table, type Target } from '../reach.ts';
import { blockBehind, linesOf } from '../readme.ts';
import { interfaceOf, METADATA, PEER, SUBNETS, TENANTS, type Tenant } from '../site.ts';

/** With the headers of ICMP and IP it makes 9001. */
const JUMBO_BYTES = 8973;

export const makeNetworks = (host: Host): Promise<string> =>
  host.mknet(`--persist ${TENANTS.map(interfaceOf).join(' ')}`);

/** Starts two containers of red and one of blue on each host. Throws if who reaches whom is not as in a VPC with two
 *  tenants. */
async function checkReach({ hosts, peer, fabric, say }: Fixture): Promise<readonly Container[]> {
  const run = (host: Host, kind: string) => {
    const name = `${kind}-${host.name}`;
    return Container.run(host, name, `ec2-${interfaceOf(tenantOf(name) ?? 'red')}`);
  };
  const containers = await Promise.all(
    hosts.flatMap(host => ['red', 'red2', 'blue'].map(kind => run(host, kind))),
  );
  const places = [...containers, peer, ...hosts];
  const dropped = fabric.drops()['between-tenants'] ?? 0;
  const found = await Promise.all(
    places.map(async place => {
      const tenant = tenantOf(place.name);
      const targets: Target[] = places.filter(other => other !== place);
      if (tenant !== null) targets.push({ name: 'router', ip: SUBNETS[tenant].router });
      const [answers, metadata] = await Promise.all([pingAll(place, targets), metadataOf(place)]);
      return { from: place.name, answers: answers.set('metadata', metadata) };
    }),
  );
  const table = new Table();
  for (const { from, answers } of found)
    for (const [to, answer] of answers) table.put(from, to, answer, areApart(from, to) ? 'no' : 'yes');
  say(`${table}`);
  table.check();
  if ((fabric.drops()['between-tenants'] ?? 0) <= dropped)
    throw new Error('the access lists dropped nothing');
  await mustCarryJumbo(containers);
  mustDiffer(containers);
  return containers;
}

/** Whether instance metadata tells the place which instance it is on. Throws if it tells of another. */
async function metadataOf(place: Place & { readonly instance: string }): Promise<Answer> {
  const curl = 'curl --silent --fail --max-time 5';
  const url = `http://${METADATA}/latest`;
  const token = await place.run(
    `${curl} -X PUT -H 'x-aws-ec2-metadata-token-ttl-seconds: 60' ${url}/api/token`,
  );
  if (token.code !== 0) return 'no';
  const { stdout } = await place.run(
    `${curl} -H 'x-aws-ec2-metadata-token: ${token.stdout}' ${url}/meta-data/instance-id`,
  );
  if (stdout !== place.instance)
    throw new Error(`${place.name} is told to be on ${stdout}, not on ${place.instance}`);
  return 'yes';
}

/** Packets as long as the MTU get through between the hosts: the wire drops fragments. */
async function mustCarryJumbo(containers: readonly Container[]): Promise<void> {
  const [one, other] = ['red-a', 'red-b'].map(wanted => containers.find(({ name }) => name === wanted));
  if (one === undefined || other === undefined) throw new Error('a container is missing');
  const { code, stdout } = await one.run(`ping -q -c 2 -W 2 -s ${JUMBO_BYTES} ${other.ip}`);
  if (code !== 0) throw new Error(`packets of 9001 bytes are lost: ${stdout}`);
}

/** The tenant, by the name of a container; the neighbour is red's. */
const tenantOf = (name: string): Tenant | null =>
  TENANTS.find(tenant => name.startsWith(tenant)) ?? (name === PEER.name ? 'red' : null);

function areApart(one: string, other: string): boolean {
  const [a, b] = [tenantOf(one), tenantOf(other)];
  return a !== null && b !== null && a !== b;
}

export async function everyNetwork(fixture: Fixture): Promise<void> {
  fixture.say((await Promise.all(fixture.hosts.map(makeNetworks))).join('\n'));
  await checkReach(fixture);
}

/** After a check of all networks: the wire drops, at once, an address that has left its ENI, and a foreign MAC. */
export async function everyNetworkAndNoMore(fixture: Fixture): Promise<void> {
  await everyNetwork(fixture);
  const { a: host, peer, fabric } = fixture;
  const one = await Container.of(host, 'red-a');
  const eni = host.site.enis[1];
  const entry = await peer.must(`ip neigh show ${one.ip}`);
  if (eni === undefined || !entry.includes(eni.mac))
    throw new Error(`its MAC address is not that of its ENI: ${entry}`);
  const before = fabric.drops();
  const heard = await echoesIn(one);
  fixture.vpc.network.unassign(eni.id, [one.ip as Ipv4]);
  const router = { name: 'router, by macvlan', ip: SUBNETS.red.router };
  await peer.sh(
    `ip link add other link ens5 type macvlan && ip link set other up && ip route add ${router.ip} dev other`,
  );
  const pings = [pingAll(one, [peer]), pingAll(host, [one]), pingAll(peer, [one, router])];
  const answers = (await Promise.all(pings)).flatMap(found => [...found]);
  await peer.must('ip link delete other');
  const after = fabric.drops();
  const grown = Object.keys(after).filter(reason => (after[reason] ?? 0) > (before[reason] ?? 0));
  const answered = answers.map(([to, answer]) => `${to} ${answer}`);
  fixture.say(`taken off behind our back: ${answered.join(', ')}; dropped for ${grown.join(', ')}`);
  if (answers.some(([, answer]) => answer === 'yes')) throw new Error('it is reached all the same');
  if ((await echoesIn(one)) > heard) throw new Error('frames to it are delivered all the same');
  for (const reason of ['foreign-source', 'nobody', 'stale-neighbour', 'foreign-mac'])
    if (!grown.includes(reason)) throw new Error(`no frame was dropped for ${reason}`);
}

/** How many pings have arrived, answered or not. */
async function echoesIn(place: Place): Promise<number> {
  const { stdout } = await place.run('cat /proc/net/snmp');
  const [names, values] = [...stdout.matchAll(/^Icmp: (.*)$/gm)].map(([, line = '']) => line.split(' '));
  const count = Number(values?.[names?.indexOf('InEchos') ?? -1]);
  if (Number.isNaN(count)) throw new Error(`${place.name} does not tell how many pings arrived: ${stdout}`);
  return count;
}

/** Each host with a ledger of its own, over ranges of its own: the README's commands, and the same for blue. */
export async function disjointRanges(fixture: Fixture): Promise<void> {
  const commands = linesOf(blockBehind('say so before the first network is made:', 'sh'));
  await initialise(fixture, index => commands[index]?.split(/\s+/)[2] ?? '');
  for (const { host, name, ip } of await checkReach(fixture)) {
    const upper = Number(ip.split('.')[3]) >= 128;
    if (upper !== (host === fixture.b)) throw new Error(`${name} got ${ip}, out of the range of its host`);
  }
}

/** Two ledgers that know nothing of each other choose from the same 32 addresses. */
export async function overlappingRanges(fixture: Fixture): Promise<void> {
  const refusals = () => fixture.hosts.map(host => host.serverLog().split('"taken by others"').length);
  const before = refusals();
  await fixture.forget();
  await initialise(fixture, () => `${SUBNETS.red.id}=${SUBNETS.red.prefix}64/27`);
  await checkReach(fixture);
  const collisions = refusals().map((count, host) => count - (before[host] ?? 0));
  fixture.say(`EC2 refused what the other ledger had taken ${collisions.join(' and ')} times`);
  if (collisions.every(count => count === 0)) throw new Error('they never collided: nothing is shown');
}

/** Fills each host's ledger with its range of red and the same of blue, and makes the networks. */
async function initialise({ hosts }: Fixture, rangeOf: (host: number) => string): Promise<void> {
  const { red, blue } = SUBNETS;
  await Promise.all(
    hosts.map(async (host, index) => {
      const range = rangeOf(index);
      await host.ipam(`init ${range} ${range.replace(red.id, blue.id).replace(red.prefix, blue.prefix)}`);
      await makeNetworks(host);
    }),
  );
}
