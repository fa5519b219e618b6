import { until } from '../../kit/docker/netns.ts';
import { Container, mustDiffer } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import type { Host } from '../host.ts';
import { mustReach } from '../reach.ts';
import { blockBehind, linesOf } from '../readme.ts';

const FIXED = '10.0.1.200';
const OF_COMPOSE = ['app-web-1', 'app-fixed-1'];
const RESTART_MS = 30_000;

/** The README's first container, Compose, crashes, restarts, ten containers at once, `--ip`. */
export async function everyday(fixture: Fixture): Promise<void> {
  const { b: host, say } = fixture;
  await host.mknet('ens6');
  const [, run = ''] = linesOf(blockBehind('**5. The network.**', 'sh'));
  const shown = await host.sh(run);
  const [, own = ''] = shown.match(/inet (10\.0\.1\.\d+)\/24/) ?? [];
  if (own === '') throw new Error(`${run}: no address of the subnet:\n${shown}`);
  say(`${run}: ${own}`);

  host.write('/root/app/compose.yaml', blockBehind('**Docker Compose**', 'yaml'));
  const compose = (line: string) => host.docker(`compose --project-directory /root/app ${line}`);
  await compose('up --detach');
  await mustWork(fixture, OF_COMPOSE, 'docker compose up');
  await crash(host, OF_COMPOSE);
  await mustWork(fixture, OF_COMPOSE, 'a crash, and restart: always');
  await host.docker(`restart --time 0 ${OF_COMPOSE.join(' ')}`);
  await mustWork(fixture, OF_COMPOSE, 'docker restart');

  const ten = Array.from({ length: 10 }, (_, index) => `ten-${index}`);
  await Promise.all(ten.map(name => host.docker(`run -d --name ${name} --network ec2 busybox sleep 600`)));
  await mustWork(fixture, [...ten, ...OF_COMPOSE], 'ten at once');

  const refused = await host.run(`docker run --rm --network ec2 --ip ${FIXED} busybox true`);
  say(`docker run --ip ${FIXED} ends with ${refused.code}: ${refused.stderr.trim()}`);
  if (refused.code === 0 || !refused.stderr.includes(`${FIXED} is held by`))
    throw new Error('a second container with this address was not refused');
  await compose('down --timeout 0');
  await host.docker(`rm -f ${ten.join(' ')}`);
  await host.mustHold(0);
  await host.empty();
}

/** Each container has an address of its own, by which the neighbour reaches it; the fixed one has its own. */
async function mustWork(
  { b: host, peer, say }: Fixture,
  names: readonly string[],
  what: string,
): Promise<void> {
  const containers = await Promise.all(names.map(name => Container.of(host, name)));
  say(`${what}: ${containers.map(({ name, ip }) => `${name} ${ip}`).join(', ')}`);
  await mustReach(peer, containers);
  mustDiffer(containers);
  if (containers.find(({ name }) => name === 'app-fixed-1')?.ip !== FIXED)
    throw new Error(`the fixed address is not ${FIXED}`);
}

/** Kills the containers' processes, and waits until Docker has started them again. */
async function crash(host: Host, names: readonly string[]): Promise<void> {
  const inspect = async (format: string) =>
    (await host.docker(`inspect --format '${format}' ${names.join(' ')}`)).split('\n');
  const pids = await inspect('{{.State.Pid}}');
  await host.must(['kill', '-KILL', ...pids]);
  await until('both are started again', RESTART_MS, async () => {
    const states = await inspect('{{.State.Running}} {{.State.Pid}}');
    return states.every((state, i) => state.startsWith('true ') && !state.endsWith(` ${pids[i]}`));
  });
}
