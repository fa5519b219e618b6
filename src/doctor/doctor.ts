/** Looks at a host for all that keeps containers from their addresses. It reads only. */
import type { Ec2Reads } from '../cloud/cloud.ts';
import type { AskRights } from '../cloud/dry-run.ts';
import type { Metadata, ReadMetadata } from '../cloud/imds.ts';
import { fromNumber } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId, InstanceId } from '../domain/ids.ts';
import type { Run } from '../witness/commands.ts';
import type { DockerClient, DockerNetworkInfo } from '../witness/docker-client.ts';
import { type AgentParts, judgeCertificate, judgeServers } from './agent.ts';
import { judgeAway, judgeVersion } from './docker.ts';
import { judgeAttachment, judgeClock, judgeRights, judgeRoom, judgeSubnet } from './ec2.ts';
import { broken, type Finding, named, notChecked, ok, type Verdict, warning } from './finding.ts';
import type { Files } from './host.ts';
import { judgeKernel } from './kernel.ts';
import { judgeLedger, type LedgerParts, readyOn } from './ledger.ts';
import { interfaceOf, judgeInterface, type Link, linksIn } from './links.ts';
import { judgeManagers } from './managers.ts';
import { chooseEnis, type HostEni, type InstanceFacts, judgeMetadata, readInstance } from './metadata.ts';
import { DRIVER, judgeNetworks, judgeSlaves } from './networks.ts';
import { judgePermissions } from './permissions.ts';
import {
  type Activated,
  isElsewhere,
  judgeAnswer,
  judgeSpecs,
  keysOf,
  type PluginAddress,
  pluginsOf,
} from './plugin.ts';

export interface Ec2Parts {
  readonly reads: Pick<Ec2Reads, 'eni' | 'subnet' | 'instanceType' | 'addressLimit'>;
  readonly askRights: AskRights;
  /** EC2's time of day by its last answer; null: not known. */
  now(): number | null;
}

export interface DoctorParts {
  readonly runtime: { readonly name: string; readonly unsupported: string | null };
  readonly isRoot: boolean;
  readonly files: Files;
  readonly run: Run;
  readonly metadata: ReadMetadata;
  answersWithoutToken(): Promise<boolean>;
  /** Null: --docker-socket is off. */
  readonly docker: {
    readonly socketPath: string;
    readonly client: Pick<DockerClient, 'version' | 'networks'>;
  } | null;
  activate(plugin: PluginAddress): Promise<Activated>;
  timeOfDay(): number;
  /** The ENI that is meant; null: nobody said. */
  readonly eni: EniId | null;
  readonly stateDir: string;
  readonly exposed: readonly string[];
  /** Null: this host has no agent. */
  readonly agent: AgentParts | null;
  /** Null: a server elsewhere asks EC2 and has the ledger. */
  readonly own: { readonly ec2: Ec2Parts; readonly ledger: LedgerParts } | null;
  /** The longest time of one check, in milliseconds. */
  readonly boundMs?: number;
}

const BOUND_MS = 20_000;
/** EC2 is asked several times, one after the other, each time for at most 12 s. */
const EC2_BOUND_MS = 60_000;
const COMMAND_MS_MAX = 5_000;

/** A fact that several checks need, or why it is not known. */
type Fact<T> = { readonly value: T } | { readonly why: string };
const fact = <T>(reading: Promise<T>): Promise<Fact<T>> =>
  reading.then(
    value => ({ value }),
    error => ({ why: reasonOf(error) }),
  );
const knownIn = <T>(one: Fact<T>): T | null => ('value' in one ? one.value : null);

function reasonOf(error: unknown): string {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return name === 'TimeoutError' ? 'no answer in time' : message;
}

interface Facts {
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
function gather({ metadata, run, docker, files }: DoctorParts): Facts {
  const signal = AbortSignal.timeout(COMMAND_MS_MAX);
  const id = metadata('instance-id');
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

/** Makes all checks at once, each within its bound. Findings are in the order of the checks. */
export async function examine(parts: DoctorParts): Promise<Finding[]> {
  const facts = gather(parts);
  const chosen = choose(parts, facts);
  const start = `systemctl restart ${parts.agent === null ? 'ec2-ipam' : 'ec2-ipam-agent'}, and see its journal`;
  const checks: Check[] = [
    single('runtime', async () => judgeRuntime(parts)),
    single('metadata', () => checkMetadata(parts, facts)),
    single('ENI', async () => [(await chosen).verdict]),
    ['interface', () => eachEni(chosen, eni => checkInterface(parts, facts, eni))],
    single('kernel', async () => [await judgeKernel(parts.files)]),
    single('docker', () => checkDocker(parts)),
    ['network', () => eachEni(chosen, eni => checkNetworks(facts, eni))],
    single('plugin', async () => await judgeSpecs(await facts.plugins, parts.files, start)),
    single('answer', () => checkAnswer(parts, facts, start)),
    ...(parts.agent === null ? [] : agentChecks(parts, parts.agent, facts)),
    ...serverChecks(parts, facts, chosen),
    single('permissions', () => checkPermissions(parts, facts)),
  ];
  const boundMs = parts.boundMs ?? BOUND_MS;
  const bounded = ([name, check]: Check) =>
    within(name === 'EC2' ? (parts.boundMs ?? EC2_BOUND_MS) : boundMs, name, check);
  return (await Promise.all(checks.map(bounded))).flat();
}

type Check = [name: string, check: () => Promise<readonly Finding[]>];
const single = (name: string, check: () => Promise<readonly Verdict[]>): Check => [
  name,
  async () => named(name, await check()),
];

/** A check that does not end in time, or fails, is a finding too. */
async function within(
  boundMs: number,
  name: string,
  check: () => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<readonly Finding[]>(resolve => {
    timer = setTimeout(
      () =>
        resolve(
          named(name, [
            notChecked(
              `it did not end within ${boundMs / 1000} s`,
              'see what keeps this host, and try again',
            ),
          ]),
        ),
      boundMs,
    );
  });
  try {
    return await Promise.race([check(), late]);
  } catch (error) {
    return named(name, [notChecked(reasonOf(error))]);
  } finally {
    clearTimeout(timer);
  }
}

/** The ENIs, with their interfaces. */
interface Chosen {
  readonly enis: readonly ChosenEni[];
  readonly verdict: Verdict;
}
interface ChosenEni extends HostEni {
  /** Null: there is none. */
  readonly link: Link | null;
  /** The interface's name, or the ENI's id. */
  readonly shown: string;
}

async function choose({ eni: given }: DoctorParts, facts: Facts): Promise<Chosen> {
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

async function eachEni(
  chosen: Promise<Chosen>,
  check: (eni: ChosenEni) => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  return (await Promise.all((await chosen).enis.map(check))).flat();
}

function judgeRuntime({ runtime: { name, unsupported }, isRoot }: DoctorParts): Verdict[] {
  const found = [
    unsupported === null ? ok(`${name}`) : broken(unsupported, 'install Node 22.18 or later, Bun or Deno'),
  ];
  if (!isRoot) found.push(warning('this does not run as root, and cannot see all', 'sudo ec2-ipam doctor'));
  return found;
}

async function checkMetadata(parts: DoctorParts, { id, instance }: Facts): Promise<Verdict[]> {
  const trouble = await judgeMetadata(await id, parts.answersWithoutToken);
  if (trouble !== null) return [trouble];
  const known = await instance;
  return 'value' in known
    ? [ok(`instance metadata answers by version 2: ${known.value.instance}`)]
    : [broken(known.why, 'try again; a new ENI appears after some seconds')];
}

async function checkInterface(
  { files }: DoctorParts,
  { links }: Facts,
  { mac, primary, device, link, shown }: ChosenEni,
): Promise<readonly Finding[]> {
  const known = await links;
  if ('why' in known)
    return named(`interface ${shown}`, [notChecked(known.why, 'install iproute2, or run this as root')]);
  const isHosts = device === 0;
  const managers = link === null || isHosts ? [] : await judgeManagers(files, link);
  return [
    ...named(`interface ${shown}`, judgeInterface(link, mac, primary, isHosts)),
    ...named(`managers ${shown}`, managers),
  ];
}

async function checkDocker({ docker }: DoctorParts): Promise<Verdict[]> {
  if (docker === null) return [notChecked('--docker-socket is off')];
  const version = await fact(docker.client.version(AbortSignal.timeout(COMMAND_MS_MAX)));
  return ['value' in version ? judgeVersion(version.value) : judgeAway(docker.socketPath, version.why)];
}

async function checkNetworks({ links, networks }: Facts, eni: ChosenEni): Promise<readonly Finding[]> {
  const known = networks && (await networks);
  const name = `network ${eni.shown}`;
  if (known === null || 'why' in known)
    return named(name, [notChecked(known?.why ?? '--docker-socket is off')]);
  const mode = known.value.find(one => one.ipamDriver === DRIVER && one.eni === eni.id)?.mode ?? null;
  const slaves = eni.link === null ? [] : judgeSlaves(knownIn(await links) ?? [], eni.link, mode);
  return named(name, [...judgeNetworks(known.value, eni, eni.link), ...slaves]);
}

async function checkAnswer(parts: DoctorParts, facts: Facts, start: string): Promise<Verdict[]> {
  const [first] = await facts.plugins;
  if (first === undefined || typeof first === 'string') return [notChecked('Docker knows no address of it')];
  return [judgeAnswer(first, await parts.activate(first), start)];
}

function agentChecks(parts: DoctorParts, agent: AgentParts, { instance }: Facts): Check[] {
  return [
    single('certificate', async () => [
      judgeCertificate(agent.certificate(), knownIn(await instance)?.instance ?? null, parts.timeOfDay()),
    ]),
    single('servers', async () =>
      judgeServers(
        await Promise.all(agent.servers.map(async ({ name, reach }) => ({ name, why: await reach() }))),
      ),
    ),
  ];
}

/** What only the server of a ledger needs. */
function serverChecks({ own, timeOfDay }: DoctorParts, facts: Facts, chosen: Promise<Chosen>): Check[] {
  const checks: Check[] = [
    single('ledger', async () =>
      own === null ? [] : judgeLedger(own.ledger, knownIn(await facts.instance)?.instance ?? null, timeOfDay),
    ),
    [
      'EC2',
      async () => {
        if (own === null) return [];
        const { enis, verdict } = await chosen;
        if (enis.length === 0) return named('EC2', [notChecked(`no ENI to ask EC2 for: ${verdict.what}`)]);
        const instance = knownIn(await facts.instance)?.instance ?? null;
        const found = await Promise.all(enis.map(({ id }) => askEc2(own, id, instance)));
        const now = own.ec2.now();
        const clock = judgeClock(now === null ? null : timeOfDay() - now);
        return [...found.flat(), ...named('clock', [clock])];
      },
    ],
  ];
  const why = async () => (own === null ? 'a central server' : await facts.elsewhere);
  return checks.map(([name, check]) => [
    name,
    async () => {
      const server = await why();
      return server === null ? await check() : named(name, [notChecked(`${server} asks it, not this host`)]);
    },
  ]);
}

async function askEc2(
  { ec2: { reads, askRights }, ledger }: NonNullable<DoctorParts['own']>,
  id: EniId,
  instance: InstanceId | null,
): Promise<readonly Finding[]> {
  try {
    const eni = await reads.eni(id);
    const [subnet, type, ready] = await Promise.all([
      reads.subnet(eni.subnet),
      eni.instance === null ? null : reads.instanceType(eni.instance),
      readyOn(ledger, id),
    ]);
    const limit = type === null ? null : await reads.addressLimit(type);
    const away = instance === null ? null : judgeAttachment(eni, instance);
    const router = fromNumber(subnet.cidr.first + 1);
    const rights = await fact(askRights({ eni: id, primary: eni.primary, router }));
    return [
      ...named(
        `room ${id}`,
        [away, judgeRoom(eni, limit, ready)].filter(one => one !== null),
      ),
      ...named(`subnet ${eni.subnet}`, [judgeSubnet(subnet, ready)]),
      ...named(`rights ${id}`, 'value' in rights ? judgeRights(rights.value) : [notChecked(rights.why)]),
    ];
  } catch (error) {
    if (!(error instanceof IpamError) || error.code === 'internal') throw error;
    return named(`EC2 ${id}`, [broken(error.message, error.hint || 'see what keeps this host from EC2')]);
  }
}

async function checkPermissions(parts: DoctorParts, { plugins }: Facts): Promise<Verdict[]> {
  const all = await plugins;
  const { files, stateDir, exposed, docker } = parts;
  return await judgePermissions(files, {
    sockets: all.flatMap(one =>
      typeof one !== 'string' && one.url.startsWith('unix://') ? [one.url.slice('unix://'.length)] : [],
    ),
    dockerSocket: docker?.socketPath ?? null,
    stateDir,
    keys: keysOf(all),
    exposed,
  });
}
