import { Container } from '../container.ts';
import type { Host, Say } from '../host.ts';
import { type Answer, type Place, pingAll, Table, type Target } from '../reach.ts';
import { METADATA, PEER } from '../site.ts';
import type { Stage } from '../stage.ts';

const PEER_IP = PEER.enis[0]?.primary ?? '';

/** What the README says of l3, l3s and an ENI that the host has an address on. (Of l2 everywhere else.) */
export async function modes(stage: Stage, say: Say): Promise<void> {
  const { b: host } = stage;
  const table = new Table();
  await host.empty();
  for (const mode of ['l3', 'l3s']) await routed(stage, host, mode, table);
  await host.must('/opt/ec2-ipam/mknet.sh', '--primary', '-n', 'own');
  const own = await Container.run(host, 'on-primary', 'own');
  const itself: Place = { name: 'its host', run: command => host.run(command) };
  const sides: [Place, string, Answer][] = [
    [itself, host.site.enis[0]?.primary ?? '', 'no'],
    [stage.peer, PEER_IP, 'yes'],
  ];
  await Promise.all(
    sides.map(async ([place, ip, expected]) => {
      const there = { name: place.name, ip };
      const [to, back] = await Promise.all([reaches(own, there), reaches(place, own)]);
      table.put('on-primary', place.name, to, expected);
      table.put(place.name, 'on-primary', back, expected);
    }),
  );
  say(`${table}`);
  table.check();
}

/** Two containers in a mode that leaves routing to the host: they reach each other and nobody else. */
async function routed(stage: Stage, host: Host, mode: string, table: Table): Promise<void> {
  await host.must('/opt/ec2-ipam/mknet.sh', '-m', mode, 'ens6');
  const [one, two] = await Promise.all([
    Container.run(host, `${mode}-1`, 'ec2'),
    Container.run(host, `${mode}-2`, 'ec2'),
  ]);
  const nobody: Target[] = [
    { name: 'router', ip: '10.0.1.1' },
    { name: 'metadata', ip: METADATA },
    { name: 'peer', ip: PEER_IP },
    { name: 'its host', ip: host.site.enis[0]?.primary ?? '' },
  ];
  const [answers, same, back] = await Promise.all([
    pingAll(one, nobody),
    reaches(one, two),
    reaches(stage.peer, one),
  ]);
  for (const [name, answer] of answers) table.put(mode, name, answer, 'no');
  table.put(mode, 'same ENI', same, 'yes');
  table.put('peer', mode, back, 'no');
  await host.empty();
}

const reaches = async (from: Place, to: Target): Promise<Answer> =>
  (await pingAll(from, [to])).get(to.name) ?? 'no';
