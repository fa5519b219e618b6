/** Looks at a host for all that keeps containers from their addresses. It reads only. */
import { type AgentParts, judgeCertificate, judgeMadeByHand, judgeServers } from './checks/agent.ts';
import { judgeAway, judgeVersion } from './checks/docker.ts';
import { checkEc2 } from './checks/ec2-check.ts';
import { judgeKernel } from './checks/kernel.ts';
import { judgeLedger } from './checks/ledger.ts';
import { judgeInterface } from './checks/links.ts';
import { judgeManagers } from './checks/managers.ts';
import { judgeMetadata } from './checks/metadata.ts';
import { DRIVER, judgeNetworks, judgeSlaves } from './checks/networks.ts';
import { judgePermissions } from './checks/permissions.ts';
import { certificatesOf, judgeAnswer, judgeSpecs, keysOf } from './checks/plugin.ts';
import {
  type Chosen,
  type ChosenEni,
  choose,
  type Facts,
  fact,
  gather,
  knownIn,
  READ_MS_MAX,
  reasonOf,
} from './facts.ts';
import { broken, type Finding, named, notChecked, ok, type Verdict, warning } from './finding.ts';
import type { DoctorParts, OwnServer } from './parts.ts';

const BOUND_MS = 20_000;
/** EC2 is asked several times, one after the other, each time for at most 12 s. */
const EC2_BOUND_MS = 60_000;

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
    single('spec certificate', () => checkCertificates(parts, facts)),
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
  const version = await fact(docker.client.version(AbortSignal.timeout(READ_MS_MAX)));
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

async function checkCertificates({ files, timeOfDay }: DoctorParts, { plugins }: Facts): Promise<Verdict[]> {
  const paths = certificatesOf(await plugins);
  return await Promise.all(
    paths.map(async path => judgeMadeByHand(path, await files.text(path), timeOfDay())),
  );
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
  const instance = async () => knownIn(await facts.instance)?.instance ?? null;
  /** Runs the check where this host has the server. */
  const here = (name: string, check: (server: OwnServer) => Promise<readonly Finding[]>): Check => [
    name,
    async () => {
      const server = own === null ? 'a central server' : await facts.elsewhere;
      if (own !== null && server === null) return await check(own);
      return named(name, [notChecked(`${server} asks it, not this host`)]);
    },
  ];
  return [
    here('ledger', async ({ ledger }) =>
      named('ledger', await judgeLedger(ledger, await instance(), timeOfDay)),
    ),
    here('EC2', async server => {
      const { enis, verdict } = await chosen;
      if (enis.length === 0) return named('EC2', [notChecked(`no ENI to ask EC2 for: ${verdict.what}`)]);
      const ids = enis.map(({ id }) => id);
      return await checkEc2(server, ids, await instance(), timeOfDay);
    }),
  ];
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
