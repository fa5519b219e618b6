/** Wires store, cloud, pools and HTTP from the configuration. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import type { Parts } from './cli/command.ts';
import { version } from './cli/runtime.ts';
import type { Config } from './cli/settings/config.ts';
import { wait } from './cli/wait.ts';
import { createEc2Time } from './cloud/ec2-time.ts';
import { metadataOf, type ReadMetadata } from './cloud/imds.ts';
import { createLaterEc2 } from './cloud/later-ec2.ts';
import { observed } from './cloud/observed.ts';
import { createRateLimiter } from './cloud/rate-limiter.ts';
import { createDeadlineClock } from './domain/clock.ts';
import { IpamError } from './domain/error.ts';
import { SERVER_ID_CHARS } from './domain/history.ts';
import { type InstanceId, parseInstanceId } from './domain/ids.ts';
import type { Log } from './domain/log.ts';
import type { Observer } from './domain/observer.ts';
import type { IpamContext, Policy } from './ipam/context.ts';
import { openIpam, type WitnessOptions } from './ipam/ipam.ts';
import { endHoldersBefore } from './ipam/sync/holders.ts';
import { recallWithheld } from './ipam/sync/withheld.ts';
import { createStore, ownerOf, settleInstance } from './store/create-store.ts';
import { parseStoreUrl, type StoreSpec } from './store/url.ts';
import { createTrust } from './trust/trust.ts';
import { createWitness } from './witness/witness.ts';

/** Builds the parts, each from those before it. Asks nothing of the store or of EC2 yet; an embedded ledger's instance is
 *  known when it has been opened. */
export async function assemble(config: Config, log: Log, observer?: Observer): Promise<Parts> {
  const server = randomUUID().slice(0, SERVER_ID_CHARS);
  const spec = parseStoreUrl(config.store);
  const store = await createStore(spec, {
    password: config.storePassword,
    origin: server,
    history: config.history,
    observer,
  });
  const clock = () => performance.now();
  const deadlines = createDeadlineClock(clock, Date.now);
  const metadata = metadataOf(process.env);
  const time = createEc2Time(clock, Date.now, log);
  const ec2 = { ...config.aws, metadata, time, deadlineClock: deadlines, log };
  const client = createLaterEc2(async () => (await import('./cloud/ec2.ts')).createEc2Client(ec2));
  const cloud = createRateLimiter(observer === undefined ? client : observed(client, observer, clock), {
    clock,
    wait,
    share: config.ec2SharePercent / 100,
    budget: spec.kind === 'mysql' ? store : null,
    log,
    observer,
  });
  const host: { instance: InstanceId | null } = { instance: null };
  const context: IpamContext = {
    store,
    cloud,
    policy: policyOf(config),
    clock,
    deadlineClock: deadlines,
    wait,
    random: Math.random,
    log,
    host,
    observer,
  };
  const { reconcileEveryMs } = config;
  const ipam = openIpam(context, {
    ...{ server, version: version(), reconcileEveryMs, timeOfDay: Date.now },
    witness: witnessOf(config, spec),
  });
  const { pools, allocator, keeper } = ipam;
  const trust = createTrust({
    store,
    describe: id => cloud.as(() => 'refill').instance(id),
    region: () => cloud.region(),
    roles: config.enrollRole,
    passphrase: config.authorityKey,
    stsOverride: process.env.AWS_ENDPOINT_URL_STS,
    timeOfDay: Date.now,
    clock,
    wait,
    log,
  });
  return {
    server,
    store,
    context,
    keeper,
    trust,
    testimony: ipam.testimony,
    async ec2() {
      const { createEc2Client } = await import('./cloud/ec2.ts');
      const { createVerbatimEc2 } = await import('./cloud/verbatim-ec2.ts');
      const { createAskRights } = await import('./cloud/dry-run.ts');
      return {
        reads: createEc2Client(ec2),
        verbatim: createVerbatimEc2(ec2),
        askRights: createAskRights(ec2),
        now: time.now,
      };
    },
    service: opened => ({ pools, allocator, opened }),
    async open() {
      if (spec.kind === 'sqlite') {
        host.instance = await thisInstance(metadata, await ownerOf(spec), log);
        if (host.instance !== null) await settleInstance(spec, host.instance, log);
      }
      await store.migrate();
      const boot = bootId();
      if (spec.kind === 'sqlite' && boot !== null) await endHoldersBefore(context, boot);
      await recallWithheld(store, ipam.cache);
    },
    async own() {
      if (spec.kind !== 'sqlite') return;
      const owner = await ownerOf(spec);
      host.instance = await thisInstance(metadata, owner, log);
      if (owner !== null && owner !== host.instance)
        throw new IpamError('conflict', `the ledger is that of ${owner}, and this is ${host.instance}`, {
          hint: 'start `ec2-ipam serve` here, which sets it aside and begins a new one',
        });
    },
  };
}

function policyOf({ intentGraceMs: graceMs, callDeadlineMs, requestTimeoutMs, ...config }: Config): Policy {
  const { cooldownMs, quarantineMs, strictReuse, confirmMoves, warmMin, warmMax } = config;
  const rest = { graceMs, cooldownMs, quarantineMs };
  return { ...rest, callDeadlineMs, requestTimeoutMs, strictReuse, confirmMoves, warmMin, warmMax };
}

/** A central server does not run where the containers are: the agents of the hosts read them. */
function witnessOf(config: Config, spec: StoreSpec): WitnessOptions | null {
  const { witness: mode, dockerSocket, witnessEveryMs: everyMs, witnessAgeMs: ageMs } = config;
  if (mode === 'off') return null;
  const isHere = spec.kind === 'sqlite' && dockerSocket !== null;
  return { mode, ageMs, own: isHere ? { witness: createWitness(dockerSocket), everyMs } : null };
}

/** Returns Linux's id of this boot of the host; null elsewhere. */
function bootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return null;
  }
}

/** The instance that this process runs on. Where there is no metadata service it is any (null) for a ledger that has no
 *  owner yet; else, and while the service does not answer, it might be another than the owner: throws store-down. */
async function thisInstance(
  metadata: ReadMetadata,
  owner: InstanceId | null,
  log: Log,
): Promise<InstanceId | null> {
  const id = await metadata('instance-id');
  const said = id.kind === 'value' ? instanceIn(id.text) : null;
  if (said !== null) return said;
  const why = id.kind === 'value' ? 'what answers there names no instance' : id.why;
  if (owner === null && id.kind === 'absent') {
    log('warn', 'no instance metadata found, ENIs of any instance served', { error: why });
    return null;
  }
  const what =
    owner === null
      ? 'nothing says which instance this is'
      : `the ledger is that of ${owner}, and nothing says that this is it`;
  throw new IpamError('store-down', `${what}: instance metadata can't be read: ${why}`, {
    hint: 'see that the instance metadata service answers here; where there is none, set AWS_EC2_METADATA_DISABLED=true',
  });
}

function instanceIn(text: string): InstanceId | null {
  try {
    return parseInstanceId(text);
  } catch (error) {
    if (error instanceof IpamError) return null;
    throw error;
  }
}
