/** The command `agent`: answers Docker on a host of a central server. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { createAgentApp } from '../../agent/agent-app.ts';
import { createCredentialFile } from '../../agent/credential.ts';
import { createForwarding } from '../../agent/forward.ts';
import { createIdentity } from '../../agent/identity.ts';
import { sendCall } from '../../agent/server-client.ts';
import { createWitnessLoop, type WitnessLoop, type WitnessLoopDeps } from '../../agent/witness-loop.ts';
import { metadataOf } from '../../cloud/imds.ts';
import { aborted } from '../../domain/abort.ts';
import { createDeadlineClock } from '../../domain/clock.ts';
import { IpamError } from '../../domain/error.ts';
import { ANSWERED_WITHIN_MS } from '../../domain/origin.ts';
import { createInFlight } from '../../http/in-flight.ts';
import { type Listening, listen } from '../../http/listener/listen.ts';
import { createWitness } from '../../witness/witness.ts';
import { type Context, command } from '../command.ts';
import { runtimeName } from '../runtime.ts';
import { AGENT_SETTINGS } from '../settings/settings.ts';
import { wait } from '../wait.ts';

/** At the end: how long the last requests may take beyond `--request-timeout`. */
const LAST_REQUESTS_MS = 5_000;
/** At the end: how long it is tried to make what is owed. Docker has no driver meanwhile. */
const OWED_MS_MAX = 10_000;

export const agent = command({
  name: 'agent',
  summary: 'answer Docker on a host, for one of several central servers; proves which instance it is',
  usage: '',
  args: { min: 0, max: 0 },
  settings: AGENT_SETTINGS,
  defaults: { listen: 'unix:/run/docker/plugins/ec2-ipam.sock' },
  options: {},
  async run({ config, io, log }) {
    io.crashed.catch(error => log('error', 'uncaught error', { error }));
    const { servers, serverCa, boundMs } = settingsOf(config);
    const clock = () => performance.now();
    const shared = { servers, serverCa, send: sendCall, clock, wait, log };
    const identity = createIdentity({
      ...shared,
      metadata: metadataOf(process.env),
      file: createCredentialFile(config.stateDir, log),
      stsOverride: process.env.AWS_ENDPOINT_URL_STS,
      timeOfDay: Date.now,
      random: Math.random,
    });
    const deadlineClock = createDeadlineClock(clock, Date.now);
    const ids = { newId: randomUUID };
    const forwarding = createForwarding({ ...shared, ...ids, identity, boundMs, deadlineClock });
    const { unanswered } = forwarding;
    const witnessing = witnessLoop(config, { ...shared, identity, unanswered });
    const inFlight = createInFlight();
    const released = () => witnessing?.released();
    const app = createAgentApp({ forwarding, boundMs, deadlineClock, inFlight, ...ids, released, log });
    const listening: Listening[] = [];
    const stopping = new AbortController();
    try {
      for (const listener of config.listen) listening.push(await listen(app, listener, log));
      for (const { address } of listening)
        log('info', `listening on ${address}`, { runtime: runtimeName(process.versions), pid: process.pid });
      const running = [identity.run(stopping.signal), witnessing?.run(stopping.signal) ?? []].flat();
      await Promise.race([...running, aborted(io.signal)]);
      log('info', 'stopping');
    } finally {
      const until = clock() + boundMs + LAST_REQUESTS_MS;
      await Promise.all(listening.map(one => one.close(until - clock())));
      await inFlight.ended(Math.max(0, until - clock()));
      await forwarding.settle(OWED_MS_MAX);
      stopping.abort();
    }
    return 0;
  },
});

/** Null: this host is not read. */
function witnessLoop(
  { dockerSocket, witnessEveryMs: everyMs }: Context['config'],
  deps: Omit<WitnessLoopDeps, 'witness' | 'everyMs' | 'random'>,
): WitnessLoop | null {
  if (dockerSocket === null) return null;
  return createWitnessLoop({ ...deps, witness: createWitness(dockerSocket), everyMs, random: Math.random });
}

function settingsOf({ server, serverCa, requestTimeoutMs }: Context['config']) {
  return {
    servers: server,
    serverCa: serverCa === null ? null : readPem(serverCa),
    boundMs: Math.min(requestTimeoutMs, ANSWERED_WITHIN_MS),
  };
}

function readPem(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const reason = (error as { code?: string }).code ?? error;
    throw new IpamError('bad-request', `--server-ca: ${path} can't be read: ${reason}`, { cause: error });
  }
}
