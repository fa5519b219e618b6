import { until } from '../../kit/docker/netns.ts';
import { Container } from '../container.ts';
import type { Host, Say } from '../host.ts';
import { mustReach } from '../reach.ts';
import { blockBehind, linesOf } from '../readme.ts';
import type { Stage } from '../stage.ts';

const FIXED = '10.0.1.200';
const RESTART_MS = 30_000;

/** What people do with Docker: the README's first container, Compose, crashes, restarts, ten at once, `--ip`. */
export async function everyday(stage: Stage, say: Say): Promise<void> {
  const { b: host } = stage;
  await host.must('/opt/ec2-ipam/mknet.sh', 'ens6');
  const [, run = ''] = linesOf(blockBehind('**5. The network.**', 'sh'));
  const shown = await host.sh(run);
  const [, own = ''] = shown.match(/inet (10\.0\.1\.\d+)\/24/) ?? [];
  if (own === '') throw new Error(`${run}: no address of the subnet:\n${shown}`);
  say(`${run}: ${own}`);

  host.write('/root/app/compose.yaml', blockBehind('**Docker Compose**', 'yaml'));
  const compose = (...args: string[]) => host.docker('compose', '--project-directory', '/root/app', ...args);
  await compose('up', '--detach');
  await shows(stage, host, ['app-web-1', 'app-fixed-1'], 'docker compose up', say);
  await crash(host, ['app-web-1', 'app-fixed-1']);
  await shows(stage, host, ['app-web-1', 'app-fixed-1'], 'a crash, and restart: always', say);
  await host.docker('restart', '--time', '0', 'app-web-1', 'app-fixed-1');
  await shows(stage, host, ['app-web-1', 'app-fixed-1'], 'docker restart', say);

  const names = Array.from({ length: 10 }, (_, index) => `ten-${index}`);
  await Promise.all(
    names.map(name =>
      host.docker('run', '-d', '--name', name, '--network', 'ec2', 'busybox', 'sleep', '600'),
    ),
  );
  await shows(stage, host, [...names, 'app-web-1', 'app-fixed-1'], 'ten at once', say);

  const refused = await host.run([
    'docker',
    'run',
    '--rm',
    '--network',
    'ec2',
    '--ip',
    FIXED,
    'busybox',
    'true',
  ]);
  say(`docker run --ip ${FIXED} ends with ${refused.code}: ${refused.stderr.trim()}`);
  if (refused.code === 0 || !refused.stderr.includes(`${FIXED} is held by`))
    throw new Error('that was not refused as it should be');
  await compose('down', '--timeout', '0');
  await host.docker('rm', '-f', ...names);
  const { holders } = JSON.parse(await host.ipam('status', '--json')) as { holders: unknown[] };
  if (holders.length > 0) throw new Error(`after all that ${holders.length} addresses are still held`);
  await host.empty();
}

/** Each container has an address of its own, which a neighbour and it can use; the fixed one has its own. */
async function shows(
  stage: Stage,
  host: Host,
  names: readonly string[],
  what: string,
  say: Say,
): Promise<void> {
  const containers = await Promise.all(names.map(name => Container.of(host, name)));
  const addresses = containers.map(({ ip }) => ip);
  say(`${what}: ${containers.map(({ name, ip }) => `${name} ${ip}`).join(', ')}`);
  await mustReach(stage.peer, containers);
  if (new Set(addresses).size < addresses.length) throw new Error('an address was given twice');
  if (containers.find(({ name }) => name === 'app-fixed-1')?.ip !== FIXED)
    throw new Error(`the fixed address is not ${FIXED}`);
}

/** Kills what containers run, and waits until Docker has started them again. */
async function crash(host: Host, names: readonly string[]): Promise<void> {
  const pids = (await host.docker('inspect', '--format', '{{.State.Pid}}', ...names)).split('\n');
  await host.must('kill', '-KILL', ...pids);
  await until('both are started again', RESTART_MS, async () => {
    const text = await host.docker('inspect', '--format', '{{.State.Running}} {{.State.Pid}}', ...names);
    return text
      .split('\n')
      .every((line, index) => line.startsWith('true ') && !line.endsWith(` ${pids[index]}`));
  });
}
