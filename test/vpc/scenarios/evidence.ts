import { until } from '../../kit/docker/netns.ts';
import { Container } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import type { Host } from '../host.ts';
import { mustReach } from '../reach.ts';

const NETWORK = 'ec2-ens6';
const SETTINGS = {
  EC2_IPAM_WITNESS: 'release',
  EC2_IPAM_WITNESS_EVERY: '10s',
  EC2_IPAM_WITNESS_AGE: '15s',
};
const ENDS_MS = 180_000;
/** Several readings. */
const STAYS_MS = 60_000;

/** An address that Docker has forgotten is held as long as any ipvlan slave has it, also in a namespace that only an
 *  open file keeps, which no view shows but the probe. Then it ends, and the probe has changed nothing. */
export async function evidence(fixture: Fixture): Promise<void> {
  const { b: host, peer, say } = fixture;
  await host.empty();
  await host.mknet('-n ec2-ens6 ens6');
  await host.restart('embedded', SETTINGS);
  const [stays, forgotten] = [
    await Container.run(host, 'stays', NETWORK),
    await Container.run(host, 'forgotten', NETWORK),
  ];
  await host.server.stop();
  await host.docker('rm -f forgotten');
  const slave = await hideSlave(host, forgotten.ip);
  await host.server.start();
  await new Promise(resolve => setTimeout(resolve, STAYS_MS));
  await host.mustHold(2);
  say(`${forgotten.ip}, in a namespace that only a file keeps, is held after ${STAYS_MS / 1000} s`);
  await slave.signal('KILL');
  await until('the leak ends', ENDS_MS, async () => (await held(host)) === 1);
  const [line = ''] = host.serverLog().match(/.*holder ended: nothing on its host uses the address.*/) ?? [];
  if (!line.includes(forgotten.ip)) throw new Error(`the log does not say so: ${line}`);
  say(`without it the leak ends: ${line.trim()}`);
  await mustReach(peer, [stays]);
  const mode = (await stays.run('ip -d link show eth0')).stdout;
  if (!/ipvlan +mode l2/.test(mode)) throw new Error(`the mode of the other container has changed:\n${mode}`);
  say(`the other container is reached as before, ${stays.ip} in mode l2`);
  await host.docker('rm -f stays');
  await host.mustHold(0);
  await host.restart('embedded');
  await host.empty();
}

const held = async (host: Host): Promise<number> =>
  (JSON.parse(await host.ipam('status --json')) as { holders: unknown[] }).holders.length;

/** Puts the address on a slave of the interface, in a namespace that nothing but an open file of the program keeps. */
async function hideSlave(host: Host, ip: string) {
  const script = `
    unshare --net sleep 600 &
    pid=$!
    while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
    ip link add link ens6 name hidden netns $pid type ipvlan mode l2
    nsenter --net=/proc/$pid/ns/net ip address add ${ip}/24 dev hidden
    nsenter --net=/proc/$pid/ns/net ip link set dev hidden up
    exec 9</proc/$pid/ns/net
    kill -9 $pid
    echo hidden
    exec sleep 600
  `;
  const slave = await host.start(['bash', '-e', '-c', script], 'slave');
  await until('the slave is hidden', ENDS_MS, async () => {
    const shown = await host.sh('cat /proc/[0-9]*/net/fib_trie 2>/dev/null || true');
    return !shown.includes(`|-- ${ip}\n`) && (await isTaken(host, ip));
  });
  return slave;
}

/** Whether the kernel refuses the address on another slave, as the program's probe finds. */
async function isTaken(host: Host, ip: string): Promise<boolean> {
  const script = `
    ip link add link ens6 name trial type ipvlan mode l2
    ip address add ${ip}/32 dev trial && taken=no || taken=yes
    ip link delete trial
    echo $taken
  `;
  return (await host.run(['bash', '-c', script])).stdout.includes('yes');
}
