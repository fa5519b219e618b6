import { until } from '../../kit/docker/netns.ts';
import { Container } from '../container.ts';
import type { Host, Say } from '../host.ts';
import { mustReach } from '../reach.ts';
import type { Stage } from '../stage.ts';
import { makeNetworks } from './networks.ts';

/** How late the second ENI is: what `mknet.sh --link` waits for is more. */
const LATE_MS = 20_000;
const ALWAYS = ['red-always', 'blue-always'];
const SETTLED_MS = 90_000;
/** Docker might try again, which it doesn't. */
const GRACE_MS = 3000;

/** The power goes, and comes back; the server starts first, as its unit orders. */
export async function inOrder(stage: Stage, say: Say): Promise<void> {
  const { a: host } = stage;
  await makeNetworks(host);
  await Promise.all([
    Container.run(host, 'red-always', 'ec2-ens6', '--restart', 'always'),
    Container.run(host, 'blue-always', 'ec2-ens7', '--restart', 'always'),
    Container.run(host, 'red-never', 'ec2-ens6'),
  ]);
  await host.powerOff();
  await host.boot({ ens7: LATE_MS });
  const booted = await links(host);
  say(`after the boot: ${booted}`);
  if (booted !== 'ens6 DOWN MTU 1500') throw new Error('an ENI comes up by itself: nothing is shown');
  const startedAt = performance.now();
  await host.server.start();
  await host.startDocker();
  await works(stage, host, ALWAYS);
  say(
    `in the unit's order, with ens7 ${LATE_MS / 1000} s late: all is well ${Math.round((performance.now() - startedAt) / 1000)} s after the boot; ${await links(host)}`,
  );
  if ((await links(host)) !== 'ens6 UP MTU 9001, ens7 UP MTU 9001') throw new Error('an ENI is not up');
  const { holders } = JSON.parse(await host.ipam('status', '--json')) as { holders: unknown[] };
  if (holders.length !== ALWAYS.length)
    throw new Error(`${holders.length} addresses are held, by ${ALWAYS.length} containers`);
}

/** The worst order: Docker first, the server when Docker has given up. */
export async function dockerFirst(stage: Stage, say: Say): Promise<void> {
  const { a: host } = stage;
  await host.empty(); // Docker waits for each container
  await makeNetworks(host);
  await host.docker('network', 'rm', 'ec2-ens7');
  await Container.run(host, 'red-always', 'ec2-ens6', '--restart', 'always');
  await host.powerOff();
  await host.boot();
  const startedAt = performance.now();
  await host.startDocker();
  say(
    `Docker without the server answers after ${Math.round((performance.now() - startedAt) / 1000)} s: ${await states(host)}`,
  );
  await host.server.start();
  await new Promise(resolve => setTimeout(resolve, GRACE_MS));
  const after = await states(host);
  say(`${GRACE_MS / 1000} s after the server has come, too: ${after}`);
  if (after !== 'red-always exited') throw new Error('the README says that it stays down');
  await host.docker('start', 'red-always');
  await works(stage, host, ['red-always']);
  say('docker start brings it back');
}

/** The containers run, and the other host reaches them. */
async function works(stage: Stage, host: Host, names: readonly string[]): Promise<void> {
  await until('the containers run', SETTLED_MS, async () => {
    const text = await host.docker('inspect', '--format', '{{.State.Running}}', ...names);
    return text.split('\n').every(line => line === 'true');
  });
  await mustReach(stage.b, await Promise.all(names.map(name => Container.of(host, name))));
}

const states = async (host: Host): Promise<string> =>
  (await host.docker('ps', '--all', '--format', '{{.Names}} {{.State}}')).split('\n').sort().join(', ');
const links = async (host: Host): Promise<string> => {
  const text = await host.must('ip', '-oneline', 'link', 'show');
  return [...text.matchAll(/^\d+: (ens[67])@.*? mtu (\d+) .*?state (\S+)/gm)]
    .map(([, name, mtu, state]) => `${name} ${state} MTU ${mtu}`)
    .join(', ');
};
