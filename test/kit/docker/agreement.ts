/** Whether the ledger says of an engine's addresses what its kernel says: what is in use is held or withheld, each once,
 *  and nothing else is held. */
import { assert } from '../uvu.ts';
import { until } from '../wait.ts';
import type { EngineSite } from './engine-site.ts';
import { type KernelAddress, kernelAddresses } from './kernel-addresses.ts';

/** Long enough for several readings on a slow machine, and for what Docker does after its start. */
export const SETTLES_MS = 90_000;
const PREFIX = '10.0.';

interface Line {
  readonly ip: string;
}
interface Status {
  readonly holders: readonly Line[];
  readonly withheld: readonly (Line & { readonly finding: string })[];
  readonly endedByEvidence: number;
  readonly hosts: readonly { readonly instance: string; readonly incomplete: string | null }[];
}

export const ipsOf = (lines: readonly Line[]): string[] => lines.map(one => one.ip).sort();
export const kernelOf = ({ docker }: EngineSite): Promise<KernelAddress[]> => kernelAddresses(docker, PREFIX);

export async function statusOf(site: EngineSite): Promise<Status> {
  const { code, stdout, stderr } = await site.command('status', '--json');
  assert.is(code, 0, stderr);
  return JSON.parse(stdout);
}

export async function complaintsAbout(site: EngineSite): Promise<string[]> {
  const before = ipsOf(await kernelOf(site));
  const { holders, withheld } = await statusOf(site);
  const after = ipsOf(await kernelOf(site));
  if (before.join() !== after.join()) return ['the kernel changes'];
  const [held, kept] = [ipsOf(holders), ipsOf(withheld)];
  return [
    ...before.filter((ip, i) => before.indexOf(ip) !== i).map(ip => `${ip} is in two namespaces`),
    ...before
      .filter(ip => !held.includes(ip) && !kept.includes(ip))
      .map(ip => `${ip} is in use, and neither held nor withheld`),
    ...held.filter(ip => !before.includes(ip)).map(ip => `${ip} is held, and in use nowhere`),
    ...kept.filter(ip => !before.includes(ip)).map(ip => `${ip} is withheld, and in use nowhere`),
  ];
}

/** Resolves when they agree, with how many addresses are withheld then. */
export async function settled(site: EngineSite): Promise<number> {
  let wrong: string[] = [];
  await until(
    'ledger and kernel agree',
    async () => {
      wrong = await complaintsAbout(site);
      return wrong.length === 0;
    },
    SETTLES_MS,
    1_000,
  ).catch(error => {
    throw new Error(`${error.message}: ${wrong.join('; ')}`);
  });
  return (await statusOf(site)).withheld.length;
}
