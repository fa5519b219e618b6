import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from './cli/config.ts';
import type { Parts } from './cli/parts.ts';
import { ec2Cloud } from './cloud/ec2.ts';
import { IMDS_ENDPOINT, readMetadata } from './cloud/imds.ts';
import { IpamError } from './domain/error.ts';
import { type InstanceId, parseInstanceId } from './domain/ids.ts';
import type { Log } from './domain/log.ts';
import { allocator } from './ipam/allocator.ts';
import { endHoldersBefore } from './ipam/boot.ts';
import { knownEnis } from './ipam/enis.ts';
import { giveBack } from './ipam/give-back.ts';
import { keeper } from './ipam/keeper.ts';
import type { Machine } from './ipam/machine.ts';
import { Outage } from './ipam/outage.ts';
import { pools } from './ipam/pools.ts';
import { openStore, settleInstance } from './store/open.ts';
import { parseStoreUrl } from './store/url.ts';

/** As many characters of a server's id as begin its tokens. */
const SERVER_ID_CHARS = 8;

/** Ties the parts together: configuration → store, cloud, machine, service. Touches nothing yet. */
export function assemble(config: Config, log: Log): Parts {
  const server = randomUUID().slice(0, SERVER_ID_CHARS);
  const spec = parseStoreUrl(config.store);
  const store = openStore(spec, { password: config.storePassword, origin: server });
  const clock = () => performance.now();
  const wait = async (ms: number) => {
    await sleep(ms);
  };
  const metadataEndpoint = process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT ?? IMDS_ENDPOINT;
  const cloud = ec2Cloud({ ...config.aws, clock, wait });
  const embedded: { instance: InstanceId | null } = { instance: null };
  const machine: Machine = {
    store,
    cloud,
    policy: {
      callDeadlineMs: config.callDeadlineMs,
      graceMs: config.intentGraceMs,
      cooldownMs: config.cooldownMs,
      quarantineMs: config.quarantineMs,
      requestTimeoutMs: config.requestTimeoutMs,
      strictReuse: config.strictReuse,
      warmMin: config.warmMin,
    },
    clock,
    wait,
    random: Math.random,
    log,
    get instance() {
      return embedded.instance;
    },
  };
  const enis = knownEnis(machine);
  const nobodys = giveBack(machine);
  const storeOutage = new Outage(config.requestTimeoutMs, machine);
  return {
    store,
    cloud,
    machine,
    keeper: keeper(machine, enis, nobodys, { server, reconcileEveryMs: config.reconcileEveryMs }),
    service: opened => ({
      pools: pools(machine, enis),
      allocator: allocator(machine, enis, nobodys, storeOutage),
      opened,
    }),
    async open() {
      if (spec.kind === 'sqlite') {
        embedded.instance = await thisInstance(metadataEndpoint, log);
        if (embedded.instance !== null) await settleInstance(spec, embedded.instance, log);
      }
      await store.migrate();
      const boot = bootId();
      if (spec.kind === 'sqlite' && boot !== null) await endHoldersBefore(machine, boot);
    },
  };
}

/** What Linux calls this boot of the host; null where it says nothing. */
function bootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return null;
  }
}

/** The instance that this process runs on; null where there is no metadata service to say so. */
async function thisInstance(endpoint: string, log: Log): Promise<InstanceId | null> {
  try {
    return parseInstanceId(await readMetadata('instance-id', endpoint));
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    log('warn', 'the instance metadata service does not answer: ENIs of any instance are served', {
      error: error.line,
    });
    return null;
  }
}
