import { Container } from '../container.ts';
import { type Answer, type Place, pingAll, Table, type Target } from '../reach.ts';
import { METADATA } from '../site.ts';
import type { Host, Stage } from '../stage.ts';

/** What the README says of l3, l3s and an ENI that the host has an address on. (Of l2 everywhere else.) */
export async function modes(stage: Stage, say: (text: string) => void): Promise<void> {
  await stage.bringUp('embedded');
  const { a, b } = stage;
  const table = new Table();
  await Promise.all([routed(stage, a, 'l3', table), routed(stage, b, 'l3s', table)]);
  await a.must('/opt/ec2-ipam/mknet.sh', '--primary', '-n', 'own');
  const own = await Container.run(a, 'on-primary', 'own');
  const hosts: [Host, Answer][] = [
    [a, 'no'],
    [b, 'yes'],
  ];
  for (const [host, expected] of hosts) {
    const place: Place = { name: `host ${host.name}`, run: command => host.run(command) };
    const there: Target = { name: place.name, ip: host.site.enis[0]?.primary ?? '' };
    table.put('on-primary', place.name, (await pingAll(own, [there])).get(place.name) ?? 'no', expected);
    table.put(place.name, 'on-primary', (await pingAll(place, [own])).get('on-primary') ?? 'no', expected);
  }
  say(`${table}`);
  table.check();
}

/** Two containers in a mode that leaves routing to the host: they reach each other and nobody else. */
async function routed(stage: Stage, host: Host, mode: string, table: Table): Promise<void> {
  await host.must('/opt/ec2-ipam/mknet.sh', '-m', mode, 'ens6');
  const one = await Container.run(host, `${mode}-1`, 'ec2');
  const two = await Container.run(host, `${mode}-2`, 'ec2');
  const nobody: Target[] = [
    { name: 'router', ip: '10.0.1.1' },
    { name: 'metadata', ip: METADATA },
    { name: 'peer', ip: '10.0.1.30' },
    { name: 'host a', ip: '10.0.0.10' },
    { name: 'host b', ip: '10.0.0.20' },
  ];
  for (const [name, answer] of await pingAll(one, [
    ...nobody,
    { name: 'its neighbour on the ENI', ip: two.ip },
  ]))
    table.put(mode, name, answer, name === 'its neighbour on the ENI' ? 'yes' : 'no');
  const peer: Place = { name: 'peer', run: command => stage.peer.run(command) };
  table.put('peer', mode, (await pingAll(peer, [one])).get(one.name) ?? 'no', 'no');
}
