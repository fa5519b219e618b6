/** What several checks need to know of the host: each fact is read once. */
import type { Metadata } from '../cloud/imds.ts';
import type { Run } from '../witness/commands.ts';
import type { DockerNetworkInfo } from '../witness/docker-client.ts';
import { interfaceOf, type Link, linksIn } from './checks/links.ts';
import { chooseEnis, type HostEni, type InstanceFacts, readInstance } from './checks/metadata.ts';
import { DRIVER } from './checks/networks.ts';
import { isElsewhere, type PluginAddress, pluginsOf } from './checks/plugin.ts';
import { notChecked, type Verdict } from './finding.ts';
import type { DoctorParts } from './parts.ts';

/** The longest a command of the host, or Docker, may take, in milliseconds. */
export const READ_MS_MAX = 10_000;

/** A fact that several checks need, or why it is not known. */
type Fact<T> = { readonly value: T } | { readonly why: string };
export const fact = <T>(reading: Promise<T>): Promise<Fact<T>> =>
  reading.then(
    value => ({ value }),
    error => ({ why: reasonOf(error) }),
  );
export const knownIn = <T>(one: Fact<T>): T | null => ('value' in one ? one.value : null);

export function reasonOf(error: unknown): string {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return name === 'TimeoutError' ? 'no answer in time' : message;
}

export interface Facts {
  readonly id: Promise<Metadata>;
  readonly instance: Promise<Fact<InstanceFacts>>;
  readonly links: Promise<Fact<readonly Link[]>>;
  /** Null: --docker-socket is off. */
  readonly networks: Promise<Fact<readonly DockerNetworkInfo[]>> | null;
  readonly plugins: Promise<readonly (PluginAddress | string)[]>;
  /** The server elsewhere that Docker calls; null: it calls one on this host. */
  readonly elsewhere: Promise<string | null>;
}

/** Begins to read all that several checks need. */
export function gather({ metadata, run, docker, files }: DoctorParts): Facts {
  const signal = AbortSignal.timeout(READ_MS_MAX);
  // On a busy host the first answer may come too late.
  const id = metadata('instance-id').then(first => (first.kind === 'late' ? metadata('instance-id') : first));
  const plugins = pluginsOf(files);
  return {
    id,
    instance: fact(
      id.then(answer => {
        if (answer.kind !== 'value') throw new Error(`instance metadata cannot be read: ${answer.why}`);
        return readInstance(metadata);
      }),
    ),
    links: fact(readLinks(run, signal)),
    networks: docker && fact(docker.client.networks(signal)),
    plugins,
    elsewhere: plugins.then(([first]) =>
      first !== undefined && typeof first !== 'string' && isElsewhere(first) ? first.url : null,
    ),
  };
}

async function readLinks(run: Run, signal: AbortSignal): Promise<readonly Link[]> {
  const outputs = [
    ['ip', '-oneline', '-details', 'link', 'show'],
    ['ip', '-oneline', 'address', 'show', 'scope', 'global'],
  ].map(async command => {
    const { code, stdout, stderr } = await run(command, signal);
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${stderr}`);
    return stdout;
  });
  const [links = '', addresses = ''] = await Promise.all(outputs);
  const found = linksIn(links, addresses);
  if (found.length === 0) throw new Error('`ip link` shows no interface');
  return found;
}

/** The ENIs, with their interfaces. */
export interface Chosen {
  readonly enis: readonly ChosenEni[];
  readonly verdict: Verdict;
}
export interface ChosenEni extends HostEni {
  /** Null: there is none. */
  readonly link: Link | null;
  /** The interface's name, or the ENI's id. */
  readonly shown: string;
}

export async function choose({ eni: given }: DoctorParts, facts: Facts): Promise<Chosen> {
  const [instance, links] = await Promise.all([facts.instance, facts.links]);
  const networks = facts.networks && knownIn(await facts.networks);
  if ('why' in instance) return { enis: [], verdict: notChecked(instance.why) };
  const known = knownIn(links);
  const ofNetworks = (networks ?? []).filter(one => one.ipamDriver === DRIVER).map(one => one.eni ?? '');
  const { enis, verdict } = chooseEnis(instance.value, given, ofNetworks, known);
  return {
    verdict,
    enis: enis.map(eni => {
      const link = known && interfaceOf(known, eni.mac);
      return { ...eni, link, shown: link?.name ?? eni.id };
    }),
  };
}
