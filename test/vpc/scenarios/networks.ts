import { Container } from '../container.ts';
import { type Place, pingAll, Table, type Target } from '../reach.ts';
import { blockBehind, linesOf } from '../readme.ts';
import { A, B, interfaceOf, METADATA, SUBNETS, TENANTS, type Tenant } from '../site.ts';
import type { Host, Stage, Way } from '../stage.ts';

const router = (tenant: Tenant): string => SUBNETS[tenant].cidr.replace(/0\/24$/, '1');
const networkOf = (tenant: Tenant): string => `ec2-${interfaceOf(tenant)}`;

export const makeNetworks = (host: Host): Promise<string> =>
  host.must('/opt/ec2-ipam/mknet.sh', '--persist', ...TENANTS.map(interfaceOf));

/** Containers on all networks; who reaches whom must be what a VPC with two tenants has. */
export async function checkReach(stage: Stage, say: (text: string) => void): Promise<readonly Container[]> {
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

export async function everyNetwork(stage: Stage, say: (text: string) => void, way: Way): Promise<void> {
  await stage.bringUp(way);
  say((await Promise.all(stage.hosts.map(makeNetworks))).join('\n'));
  await checkReach(stage, say);
}

/** Each host with a ledger of its own, over ranges of its own: the README's commands, and the same for blue. */
export async function disjointRanges(stage: Stage, say: (text: string) => void): Promise<void> {
  await stage.bringUp('embedded');
  const commands = linesOf(blockBehind('say so before the first network is made:', 'sh'));
  await Promise.all(
    stage.hosts.map(async (host, index) => {
      const [, , range = ''] = commands[index]?.split(/\s+/) ?? [];
      await host.ipam('init', range);
      await host.ipam('init', range.replace('60001=10.0.1.', '60002=10.0.2.'));
      await makeNetworks(host);
    }),
  );
  const containers = await checkReach(stage, say);
  for (const { host, name, ip } of containers) {
    const upper = Number(ip.split('.')[3]) >= 128;
    if (upper !== (host === stage.b)) throw new Error(`${name} got ${ip}, out of the range of its host`);
  }
}

/** The same without ranges: two ledgers that know nothing of each other, on the same subnets. */
export async function overlappingRanges(stage: Stage, say: (text: string) => void): Promise<void> {
  await stage.bringUp('embedded');
  await Promise.all(stage.hosts.map(makeNetworks));
  await checkReach(stage, say);
}
