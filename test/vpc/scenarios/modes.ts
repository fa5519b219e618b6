import { Container } from '../container.ts';
import type { Fixture } from '../fixture.ts';
import { Table } from '../reach.ts';
import { METADATA, SUBNETS } from '../site.ts';

/** The modes l3 and l3s, and an ENI that the host has an address on. All other scenarios have l2. */
export async function modes({ b: host, peer, say }: Fixture): Promise<void> {
  const table = new Table();
  const router = { name: 'router', ip: SUBNETS.red.router };
  const metadata = { name: 'metadata', ip: METADATA };
  await host.empty();
  for (const mode of ['l3', 'l3s']) {
    await host.mknet(`-m ${mode} ens6`);
    const run = (index: number) => Container.run(host, `${mode}-${index}`, 'ec2');
    const [one, two] = await Promise.all([run(1), run(2)]);
    // Routing is the host's: containers reach those of their own ENI and nobody else.
    await Promise.all([
      table.ping(one, [router, metadata, peer, host], 'no'),
      table.ping(one, [two], 'yes'),
      table.ping(peer, [one], 'no'),
    ]);
    await host.empty();
  }
  await host.mknet('--primary -n own');
  const own = await Container.run(host, 'on-primary', 'own');
  await Promise.all([
    table.ping(own, [host], 'no'),
    table.ping(host, [own], 'no'),
    table.ping(own, [peer], 'yes'),
    table.ping(peer, [own], 'yes'),
  ]);
  say(`${table}`);
  table.check();
}
