import { until } from '../../kit/docker/netns.ts';
import { Container } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import type { Host } from '../host.ts';
import { mustReach } from '../reach.ts';
import { makeNetworks } from './networks.ts';

/** How late the second ENI is: what `mknet.sh --link` waits for is more. */
const LATE_MS = 20_000;
const ALWAYS = ['red-always', 'blue-always'];
const RESTART = '--restart always';
const SETTLED_MS = 90_000;
/** Docker might try again, which it doesn't. */
const GRACE_MS = 3000;

/** The power is cut and comes back; the server starts first, as its unit orders. */
export async function inOrder(fixture: Fixture): Promise<void> {
  const { a: host, say } = fixture;
  await makeNetworks(host);
  await Promise.all([
    Container.run(host, 'red-always', 'ec2-ens6', RESTART),
    Container.run(host, 'blue-always', 'ec2-ens7', RESTART),
    Container.run(host, 'red-never', 'ec2-ens6'),
  ]);
  await host.powerOff();
  await host.boot({ ens7: LATE_MS });
  const booted = await linksOf(host);
  say(`after the boot: ${booted}`);
  if (booted !== 'ens6 DOWN MTU 1500') throw new Error('an ENI comes up by itself: nothing is shown');
  const startedAt = performance.now();
  await host.server.start();
  await host.startDocker();
  await mustWork(fixture, ALWAYS);
  const [links, seconds] = [await linksOf(host), secondsSince(startedAt)];
  say(`in the unit's order, with ens7 ${LATE_MS / 1000} s late: all is well after ${seconds} s; ${links}`);
  if (links !== 'ens6 UP MTU 9001, ens7 UP MTU 9001') throw new Error('an ENI is not up');
  await host.mustHold(ALWAYS.length);
}

/** Docker starts first, and the server when Docker has given up. */
export async function dockerFirst(fixture: Fixture): Promise<void> {
  const { a: host, say } = fixture;
  await host.empty(); // Docker waits for each container
  await makeNetworks(host);
  await host.docker('network rm ec2-ens7');
  await Container.run(host, 'red-always', 'ec2-ens6', RESTART);
  await host.powerOff();
  await host.boot();
  const startedAt = performance.now();
  await host.startDocker();
  say(`Docker without the server answers after ${secondsSince(startedAt)} s: ${await statesOf(host)}`);
  await host.server.start();
  await new Promise(resolve => setTimeout(resolve, GRACE_MS));
  const after = await statesOf(host);
  say(`${GRACE_MS / 1000} s after the server has come, too: ${after}`);
  if (after !== 'red-always exited') throw new Error('the README says that it stays down');
  await host.docker('start red-always');
  await mustWork(fixture, ['red-always']);
  say('docker start brings it back');
}

/** The containers run, and the other host reaches them. */
async function mustWork({ a: host, b: other }: Fixture, names: readonly string[]): Promise<void> {
  await until('the containers run', SETTLED_MS, async () => {
    const text = await host.docker(`inspect --format {{.State.Running}} ${names.join(' ')}`);
    return text.split('\n').every(line => line === 'true');
  });
  await mustReach(other, await Promise.all(names.map(name => Container.of(host, name))));
}

const secondsSince = (startedAt: number): number => Math.round((performance.now() - startedAt) / 1000);
const statesOf = async (host: Host): Promise<string> =>
  (await host.docker("ps --all --format '{{.Names}} {{.State}}'")).split('\n').sort().join(', ');
async function linksOf(host: Host): Promise<string> {
  const text = await host.must('ip -oneline link show');
  return [...text.matchAll(/^\d+: (ens[67])@.*? mtu (\d+) .*?state (\S+)/gm)]
    .map(([, name, mtu, state]) => `${name} ${state} MTU ${mtu}`)
    .join(', ');
}
