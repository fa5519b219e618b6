import { readFileSync } from 'node:fs';
import { Container } from '../container.ts';
import { type Place, pingAll, Table, type Target } from '../reach.ts';
import { blockBehind, linesOf } from '../readme.ts';
import { A, B, interfaceOf, METADATA, SUBNETS, TENANTS, type Tenant } from '../site.ts';
import type { Host, Say, Stage } from '../stage.ts';

const router = (tenant: Tenant): string => SUBNETS[tenant].cidr.replace(/0\/24$/, '1');
const networkOf = (tenant: Tenant): string => `ec2-${interfaceOf(tenant)}`;

export const makeNetworks = (host: Host): Promise<string> =>
  host.must('/opt/ec2-ipam/mknet.sh', '--persist', ...TENANTS.map(interfaceOf));

/** Containers on all networks; who reaches whom must be what a VPC with two tenants has. */
export async function checkReach(stage: Stage, say: Say): Promise<readonly Container[]> {
  const containers = (
    await Promise.all(
      stage.hosts.map(async host => {
        const made: { tenant: Tenant; container: Container }[] = [];
        for (const tenant of TENANTS)
          made.push({
            tenant,
            container: await Container.run(host, `${tenant}-${host.name}`, networkOf(tenant)),
          });
        made.push({
          tenant: 'red',
          container: await Container.run(host, `red2-${host.name}`, networkOf('red')),
        });
        return made;
      }),
    )
  ).flat();
  const table = new Table();
  const targets: Target[] = [
    ...containers.map(({ container }) => container),
    { name: 'peer', ip: '10.0.1.30' },
    { name: 'host a', ip: A.enis[0]?.primary ?? '' },
    { name: 'host b', ip: B.enis[0]?.primary ?? '' },
    { name: 'metadata', ip: METADATA },
  ];
  const tenantOf = (name: string): Tenant | null =>
    TENANTS.find(tenant => name.startsWith(tenant)) ?? (name === 'peer' ? 'red' : null);
  const places: Place[] = [
    ...containers.map(({ container }) => container),
    { name: 'peer', run: command => stage.peer.run(command) },
    ...stage.hosts.map(host => ({
      name: `host ${host.name}`,
      run: (command: readonly string[]) => host.run(command),
    })),
  ];
  await Promise.all(
    places.map(async place => {
      const tenant = tenantOf(place.name);
      const own: Target[] = tenant === null ? [] : [{ name: 'router', ip: router(tenant) }];
      const others = targets.filter(({ name }) => name !== place.name);
      const answers = await pingAll(place, [...others, ...own]);
      for (const { name } of [...others, ...own]) {
        const to = tenantOf(name);
        table.put(
          place.name,
          name,
          answers.get(name) ?? 'no',
          tenant !== null && to !== null && tenant !== to ? 'no' : 'yes',
        );
      }
    }),
  );
  say(`${table}`);
  table.check();
  const all = containers.map(({ container }) => container);
  if (new Set(all.map(({ ip }) => ip)).size < all.length) throw new Error('an address was given twice');
  return all;
}

export async function everyNetwork(stage: Stage, say: Say): Promise<void> {
  say((await Promise.all(stage.hosts.map(makeNetworks))).join('\n'));
  await checkReach(stage, say);
}

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
  await stage.forget();
  await initialise(stage, () => `${SUBNETS.red.id}=10.0.1.64/27`);
  await checkReach(stage, say);
  const collisions = stage.hosts.map(
    ({ name }) => readFileSync(`/out/${name}-ec2-ipam.log`, 'utf8').split('"taken by others"').length - 1,
  );
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
