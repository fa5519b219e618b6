/** The command `doctor`: says what on this host keeps containers from their addresses, and what to do about it. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import type { AgentParts, ServerParts } from '../../doctor/checks/agent.ts';
import type { DoctorParts } from '../../doctor/parts.ts';
import { aborted } from '../../domain/abort.ts';
import { IpamError } from '../../domain/error.ts';
import { parseEniId } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import { ownerOf } from '../../store/create-store.ts';
import { parseStoreUrl } from '../../store/url.ts';
import { type Context, command, JSON_OPTION } from '../command.ts';
import { runtimeName, unsupportedRuntime } from '../runtime.ts';
import type { Config } from '../settings/config.ts';
import { DOCTOR_SETTINGS } from '../settings/settings.ts';
import { text } from '../settings/value-parsers.ts';
import { print } from '../terminal/output.ts';

const REACH_MS_MAX = 5_000;
const options = {
  eni: {
    kind: text('ENI', 'an ENI id'),
    fallback: null,
    help: "the ENI of the containers; else those of Docker's networks, or the only one besides the primary",
  },
  json: JSON_OPTION,
} as const;

export const doctor = command({
  name: 'doctor',
  summary: 'look for what keeps containers of this host from their addresses, and say what to do',
  usage: '',
  args: { min: 0, max: 0 },
  settings: DOCTOR_SETTINGS,
  options,
  acceptsExposed: true,
  refusesPipes: true,
  help: `Run it as root on the Docker host, with the settings of its server or agent: --server means an agent. It changes
nothing, and asks EC2 for the rights to assign and unassign by DryRun. Where a central server asks EC2, this host does not.

Exit status 1: something will not work. Warnings do not count.
`,
  async run(context) {
    const { options: given, io, config } = context;
    const { examine } = await import('../../doctor/doctor.ts');
    const { isBroken, reportData, reportText } = await import('../../doctor/report.ts');
    const { parts, close } = await gather(context);
    try {
      const findings = await Promise.race([examine(parts), aborted(io.signal)]);
      if (findings === undefined) throw new IpamError('unavailable', 'interrupted; nothing was changed');
      print(io.out, given.json, reportData(findings), reportText(findings));
      return isBroken(findings) ? 1 : 0;
    } finally {
      await Promise.race([close(), aborted(AbortSignal.timeout(config.requestTimeoutMs))]);
    }
  },
});

async function gather({ config, options: { eni }, log, assemble }: Context<typeof options>) {
  const { realFiles } = await import('../../doctor/host.ts');
  const { activate } = await import('../../doctor/plugin-call.ts');
  const { answersWithoutToken, metadataOf } = await import('../../cloud/imds.ts');
  const { createDockerClient } = await import('../../witness/docker-client.ts');
  const { run } = await import('../../witness/commands.ts');
  const { dockerSocket: socketPath } = config;
  const agent = hasAgent(config) ? await agentParts(config, log) : null;
  const own = agent === null ? await ownParts(config, await assemble(config, () => {})) : null;
  const parts: DoctorParts = {
    runtime: { name: runtimeName(process.versions), unsupported: unsupportedRuntime(process.versions) },
    isRoot: process.getuid?.() === 0,
    files: realFiles,
    run,
    metadata: metadataOf(process.env),
    answersWithoutToken: () => answersWithoutToken(process.env),
    docker: socketPath === null ? null : { socketPath, client: createDockerClient(socketPath) },
    activate,
    timeOfDay: Date.now,
    eni: eni === null ? null : parseEniId(eni, '--eni'),
    stateDir: resolve(config.stateDir),
    exposed: config.exposed,
    agent,
    own,
  };
  return { parts, close: async () => await own?.close() };
}

/** Without --server its certificate tells. */
function hasAgent({ server, stateDir, store }: Config): boolean {
  if (server.length > 0) return true;
  const spec = parseStoreUrl(store);
  const hasLedger = spec.kind === 'mysql' || (spec.path !== null && existsSync(spec.path));
  return !hasLedger && existsSync(join(stateDir, 'agent.pem'));
}

async function ownParts(config: Config, { store, ec2 }: Awaited<ReturnType<Context['assemble']>>) {
  const spec = parseStoreUrl(config.store);
  const isEmbedded = spec.kind === 'sqlite';
  const { reads, askRights, now } = await ec2();
  return {
    ec2: { reads, askRights, now },
    ledger: {
      store,
      place: isEmbedded ? `${spec.path}` : `${spec.host}:${spec.port}`,
      isEmbedded,
      exists: !isEmbedded || (spec.path !== null && existsSync(spec.path)),
      owner: async () => (isEmbedded ? await ownerOf(spec) : null),
    },
    close: () => store.close(),
  };
}

async function agentParts(config: Config, log: Log): Promise<AgentParts> {
  const { createCredentialFile } = await import('../../agent/credential.ts');
  const { formatServer, sendCall } = await import('../../agent/server-client.ts');
  const { realFiles } = await import('../../doctor/host.ts');
  const serverCa = config.serverCa === null ? null : (await realFiles.text(config.serverCa)) || null;
  const isUnread = config.serverCa !== null && serverCa === null;
  const credential = createCredentialFile(config.stateDir, log).load(serverCa);
  const servers = config.server.map(
    (server): ServerParts => ({
      name: formatServer(server),
      async reach() {
        if (isUnread) return `--server-ca ${config.serverCa} cannot be read`;
        try {
          const call = { path: '/Plugin.Activate', body: '', withinMs: REACH_MS_MAX, serverCa };
          const { status } = await sendCall(server, { ...call, agent: credential?.agent ?? false });
          // Without a certificate a host is answered nothing but enrolment.
          return status === 200 || credential === null ? null : `HTTP status ${status}`;
        } catch (error) {
          return error instanceof IpamError ? error.message : String(error);
        }
      },
    }),
  );
  return { certificate: () => credential, servers };
}
