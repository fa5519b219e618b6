import type { Ipv4 } from '../../../src/domain/address.ts';
import { Container } from '../container.ts';
import type { Host, Say } from '../host.ts';
import { type Answer, type Place, pingAll, Table, type Target } from '../reach.ts';
import { blockBehind, linesOf } from '../readme.ts';
import { interfaceOf, METADATA, PEER, SUBNETS, TENANTS, type Tenant } from '../site.ts';
import type { Stage } from '../stage.ts';

/** With the headers of ICMP and IP it makes 9001. */
const JUMBO_BYTES = 8973;

const router = (tenant: Tenant): string => SUBNETS[tenant].cidr.replace(/0\/24$/, '1');
const networkOf = (tenant: Tenant): string => `ec2-${interfaceOf(tenant)}`;

export const makeNetworks = (host: Host): Promise<string> =>
  host.must('/opt/ec2-ipam/mknet.sh', '--persist', ...TENANTS.map(interfaceOf));

/** Starts two containers of red and one of blue on each host. Who reaches whom must be what a VPC with two tenants has. */
async function checkReach(stage: Stage, say: Say): Promise<readonly Container[]> {
  const starts = stage.hosts.flatMap(host =>
    (['red', 'red2', 'blue'] as const).map(kind => {
      const name = `${kind}-${host.name}`;
      return Container.run(host, name, networkOf(tenantOf(name) ?? 'red'));
    }),
  );
  const containers = await Promise.all(starts);
  const targets: Target[] = [
    ...containers,
    PEER_TARGET,
    ...stage.hosts.map(({ name, site }) => ({ name, ip: site.enis[0]?.primary ?? '' })),
  ];
  const dropped = stage.fabric.drops()['between-tenants'] ?? 0;
  const found = await Promise.all(
    [...containers, stage.peer, ...stage.hosts].map(async place => {
      const tenant = tenantOf(place.name);
      const own = tenant === null ? [] : [{ name: 'router', ip: router(tenant) }];
      const others = targets.filter(({ name }) => name !== place.name);
      const [answers, metadata] = await Promise.all([pingAll(place, [...others, ...own]), metadataOf(place)]);
      return { from: place.name, answers: answers.set('metadata', metadata) };
    }),
  );
  const table = new Table();
  for (const { from, answers } of found)
    for (const [to, answer] of answers) table.put(from, to, answer, areApart(from, to) ? 'no' : 'yes');
  say(`${table}`);
  table.check();
  if ((stage.fabric.drops()['between-tenants'] ?? 0) <= dropped)
    throw new Error('the access lists dropped nothing');
  await jumbo(containers);
  if (new Set(containers.map(({ ip }) => ip)).size < containers.length)
    throw new Error('an address was given twice');
  return containers;
}

/** Whether instance metadata tells the place which instance it is on; that of another one throws. */
async function metadataOf(place: Place & { readonly instance: string }): Promise<Answer> {
  const curl = ['curl', '--silent', '--fail', '--max-time', '5'];
  const url = `http://${METADATA}/latest`;
  const token = await place.run([
    ...curl,
    '-X',
    'PUT',
    '-H',
    'x-aws-ec2-metadata-token-ttl-seconds: 60',
    `${url}/api/token`,
  ]);
  if (token.code !== 0) return 'no';
  const { stdout } = await place.run([
    ...curl,
    '-H',
    `x-aws-ec2-metadata-token: ${token.stdout}`,
    `${url}/meta-data/instance-id`,
  ]);
  if (stdout !== place.instance)
    throw new Error(`${place.name} is told to be on ${stdout}, not on ${place.instance}`);
  return 'yes';
}

/** Packets as long as the MTU get through between the hosts: the wire drops fragments. */
async function jumbo(containers: readonly Container[]): Promise<void> {
  const [one, other] = ['red-a', 'red-b'].map(wanted => containers.find(({ name }) => name === wanted));
  if (one === undefined || other === undefined) throw new Error('a container is missing');
  const { code, stdout } = await one.run([
    'ping',
    '-q',
    '-c',
    '2',
    '-W',
    '2',
    '-s',
    `${JUMBO_BYTES}`,
    other.ip,
  ]);
  if (code !== 0) throw new Error(`packets of 9001 bytes are lost: ${stdout}`);
}

/** Whose containers are called so; the neighbour is red's. */
const tenantOf = (name: string): Tenant | null =>
  TENANTS.find(tenant => name.startsWith(tenant)) ?? (name === PEER.name ? 'red' : null);

function areApart(one: string, other: string): boolean {
  const [a, b] = [tenantOf(one), tenantOf(other)];
  return a !== null && b !== null && a !== b;
}

export async function everyNetwork(stage: Stage, say: Say): Promise<void> {
  say((await Promise.all(stage.hosts.map(makeNetworks))).join('\n'));
  await checkReach(stage, say);
}

/** Who reaches whom, and that the wire drops, at once, an address that is not on the ENI any more, and a foreign MAC. */
export async function everyNetworkAndNoMore(stage: Stage, say: Say): Promise<void> {
  await everyNetwork(stage, say);
  const { a: host, peer, fabric } = stage;
  const one = await Container.of(host, 'red-a');
  const eni = host.site.enis[1];
  const entry = await peer.must('ip', 'neigh', 'show', one.ip);
  if (eni === undefined || !entry.includes(eni.mac))
    throw new Error(`its MAC address is not that of its ENI: ${entry}`);
  const before = fabric.drops();
  const heard = await echoesIn(one);
  stage.vpc.network.unassign(eni.id, [one.ip as Ipv4]);
  const router = { name: 'router, by macvlan', ip: '10.0.1.1' };
  await peer.sh(
    `ip link add other link ens5 type macvlan && ip link set other up && ip route add ${router.ip} dev other`,
  );
  const pings = [pingAll(one, [PEER_TARGET]), pingAll(host, [one]), pingAll(peer, [one, router])];
  const answers = (await Promise.all(pings)).flatMap(found => [...found]);
  await peer.must('ip', 'link', 'delete', 'other');
  const after = fabric.drops();
  const grown = Object.keys(after).filter(reason => (after[reason] ?? 0) > (before[reason] ?? 0));
  say(
    `taken off behind our back: ${answers.map(([to, answer]) => `${to} ${answer}`).join(', ')}; dropped for ${grown.join(', ')}`,
  );
  if (answers.some(([, answer]) => answer === 'yes')) throw new Error('it is reached all the same');
  if ((await echoesIn(one)) > heard) throw new Error('frames to it are delivered all the same');
  for (const reason of ['foreign-source', 'nobody', 'stale-neighbour', 'foreign-mac'])
    if (!grown.includes(reason)) throw new Error(`no frame was dropped for ${reason}`);
}

/** How many pings have arrived, answered or not. */
async function echoesIn(place: Place): Promise<number> {
  const { stdout } = await place.run(['cat', '/proc/net/snmp']);
  const [names, values] = [...stdout.matchAll(/^Icmp: (.*)$/gm)].map(([, line = '']) => line.split(' '));
  const count = Number(values?.[names?.indexOf('InEchos') ?? -1]);
  if (Number.isNaN(count)) throw new Error(`${place.name} does not tell how many pings arrived: ${stdout}`);
  return count;
}

const PEER_TARGET: Target = { name: 'peer', ip: PEER.enis[0]?.primary ?? '' };

/** Each host with a ledger of its own, over ranges of its own: the README's commands, and the same for blue. */
export async function disjointRanges(stage: Stage, say: Say): Promise<void> {
  const commands = linesOf(blockBehind('say so before the first network is made:', 'sh'));
  await initialise(stage, index => commands[index]?.split(/\s+/)[2] ?? '');
  for (const { host, name, ip } of await checkReach(stage, say)) {
    const upper = Number(ip.split('.')[3]) >= 128;
    if (upper !== (host === stage.b)) throw new Error(`${name} got ${ip}, out of the range of its host`);
  }
}

/** Two ledgers that know nothing of each other choose from the same 32 addresses. */
export async function overlappingRanges(stage: Stage, say: Say): Promise<void> {
  const refusals = () => stage.hosts.map(host => host.serverLog().split('"taken by others"').length);
  const before = refusals();
  await stage.forget();
  await initialise(stage, () => `${SUBNETS.red.id}=10.0.1.64/27`);
  await checkReach(stage, say);
  const collisions = refusals().map((count, host) => count - (before[host] ?? 0));
  say(`EC2 refused what the other ledger had taken ${collisions.join(' and ')} times`);
  if (collisions.every(count => count === 0)) throw new Error('they never collided: nothing is shown');
}

/** Fills each host's ledger with its range of red and the same of blue, and makes the networks. */
async function initialise(stage: Stage, rangeOf: (host: number) => string): Promise<void> {
  await Promise.all(
    stage.hosts.map(async (host, index) => {
      const red = rangeOf(index);
      await host.ipam('init', red, red.replace(`${SUBNETS.red.id}=10.0.1.`, `${SUBNETS.blue.id}=10.0.2.`));
      await makeNetworks(host);
    }),
  );
}
