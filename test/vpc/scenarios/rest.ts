import { Container, whoAnswers } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import type { Environment, Host } from '../host.ts';
import { SUBNETS } from '../site.ts';

const { red } = SUBNETS;
/** The only address that the narrow networks give. */
const ADDRESS = `${red.prefix}77`;
/** A peer is sure of a neighbour for half to one and a half of this. Linux's own is 30 s: an emulated machine may be too
 *  slow for that, and nobody has the time to wait for it. */
const LONG_REACHABLE_MS = 60_000;
const SHORT_REACHABLE_MS = 4000;
const LINUX_REACHABLE_MS = 30_000;
const QUARANTINE_S = 8;
/** A peer that has forgotten asks the former ENI for 5 s, and then everybody. */
const SILENT_MS_MAX = 9000;
const PING_EVERY_MS = 200;
const PINGS = 3;
/** Nothing is kept ready, so that the rest alone decides; a start waits rather than break it. */
const SETTINGS: Environment = { EC2_IPAM_WARM_MIN: '0', EC2_IPAM_WARM_MAX: '0', EC2_IPAM_STRICT_REUSE: 'on' };
const RECYCLE = `recycle ${red.id} --idle 0s`;

/** An address that goes to the other instance. Without a rest its peers still write to the former one. */
export async function quarantine(fixture: Fixture): Promise<void> {
  const { a, b, hosts, say } = fixture;
  await fixture.empty('shared', SETTINGS);
  await Promise.all(hosts.map(makeNarrowNetwork));
  await Container.run(a, 'first', 'ec2');
  await remember(fixture, LONG_REACHABLE_MS);
  const without = await handOver(fixture, a, b, '0s');
  if (!without.remembers)
    throw new Error('the peer had forgotten the former holder already: nothing is shown');
  if (without.dropped < PINGS) throw new Error('what the peer sent to the former ENI arrived somewhere');
  await remember(fixture, SHORT_REACHABLE_MS);
  const within = await handOver(fixture, b, a, `${QUARANTINE_S}s`);
  if (within.remembers) throw new Error('the peer remembered for longer than the quarantine');
  const startedAt = performance.now();
  while (!(await hears(fixture))) {
    if (performance.now() - startedAt > SILENT_MS_MAX) throw new Error(`${ADDRESS} is not reached`);
    await pause();
  }
  await remember(fixture, LINUX_REACHABLE_MS);
  say(`and is reached ${Math.round(performance.now() - startedAt)} ms after those`);
}

/** Stops the address's container on one host, gives the address back, and starts a container with it on the other.
 *  Returns whether the peer was sure of the former one then, and how many of its frames went there. */
async function handOver(
  fixture: Fixture,
  from: Host,
  to: Host,
  rest: string,
): Promise<{ remembers: boolean; dropped: number }> {
  const { peer, fabric } = fixture;
  await to.restart('shared', { ...SETTINGS, EC2_IPAM_QUARANTINE: rest });
  await peer.must('ip neigh flush dev ens5');
  await peer.must(`ping -q -c 1 -W 2 ${ADDRESS}`);
  await from.sh('docker rm -f $(docker ps -q)');
  await from.ipam(RECYCLE);
  await Container.run(to, `with-quarantine-${rest}`, 'ec2');
  const before = fabric.drops()['stale-neighbour'] ?? 0;
  const entry = await peer.must(`ip neigh show ${ADDRESS}`);
  let heard = 0;
  for (let ping = 0; ping < PINGS; ping++, await pause()) heard += (await hears(fixture)) ? 1 : 0;
  const dropped = (fabric.drops()['stale-neighbour'] ?? 0) - before;
  fixture.say(
    `quarantine ${rest}, from ${from.name} to ${to.name}: the neighbour's cache says "${entry}"; ` +
      `${heard} of ${PINGS} pings are answered, ${dropped} went to the former ENI`,
  );
  const former = from.site.enis[1]?.mac ?? '';
  return { remembers: entry.includes('REACHABLE') && entry.includes(former), dropped };
}

const remember = ({ peer }: Fixture, ms: number): Promise<string> =>
  peer.sh(`echo ${ms} >/proc/sys/net/ipv4/neigh/ens5/base_reachable_time_ms`);
const hears = async ({ peer }: Fixture): Promise<boolean> =>
  (await peer.run(`ping -q -c 1 -W 1 ${ADDRESS}`)).code === 0;
const pause = (): Promise<void> => new Promise(resolve => setTimeout(resolve, PING_EVERY_MS));

/** An address that stays on its ENI. Without a rest whoever still asks the former container is answered by another. */
export async function cooldown({ b: host, peer, say }: Fixture): Promise<void> {
  await host.empty();
  await host.mknet('ens6');
  for (const rest of ['0s', '30s']) {
    await host.restart('embedded', { ...SETTINGS, EC2_IPAM_STRICT_REUSE: 'off', EC2_IPAM_COOLDOWN: rest });
    await host.ipam(RECYCLE);
    const first = await Container.run(host, `first-${rest}`, 'ec2');
    await host.docker(`rm -f ${first.name}`);
    const second = await Container.run(host, `second-${rest}`, 'ec2');
    const answers = await whoAnswers(peer, first.ip);
    say(`cooldown ${rest}: whoever still asks ${first.ip} for ${first.name} is answered by ${answers}`);
    if (answers !== (rest === '0s' ? second.name : 'nobody'))
      throw new Error(`that was not to be expected; ${second.name} has ${second.ip}`);
    if ((await whoAnswers(peer, second.ip)) !== second.name)
      throw new Error(`${second.name} does not answer`);
    await host.docker(`rm -f ${second.name}`);
  }
}

async function makeNarrowNetwork(host: Host): Promise<void> {
  await host.sh('ip link set dev ens6 mtu 9001 up');
  const ipam = `--ipam-driver ec2-ipam --ipam-opt eni-id=${host.eniOf('red')}`;
  const range = `--subnet ${red.cidr} --gateway ${red.router} --ip-range ${ADDRESS}/32`;
  await host.docker(`network create -d ipvlan -o parent=ens6 ${ipam} ${range} ec2`);
}
