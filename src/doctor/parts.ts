/** What the doctor gets to look at a host. */
import type { Ec2Reads } from '../cloud/cloud.ts';
import type { AskRights } from '../cloud/dry-run.ts';
import type { ReadMetadata } from '../cloud/imds.ts';
import type { EniId } from '../domain/ids.ts';
import type { Run } from '../witness/commands.ts';
import type { DockerClient } from '../witness/docker-client.ts';
import type { AgentParts } from './checks/agent.ts';
import type { LedgerParts } from './checks/ledger.ts';
import type { Places } from './checks/permissions.ts';
import type { Activated, PluginAddress } from './checks/plugin.ts';
import type { Files } from './host.ts';

export interface Ec2Parts {
  readonly reads: Pick<Ec2Reads, 'eni' | 'subnet' | 'instanceType' | 'addressLimit'>;
  readonly askRights: AskRights;
  /** EC2's time of day by its last answer; null: not known. */
  now(): number | null;
}

/** What the server of a ledger has. */
export interface OwnServer {
  readonly ec2: Ec2Parts;
  readonly ledger: LedgerParts;
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
  /** Milliseconds since 1970, by this host's clock. */
  timeOfDay(): number;
  /** The ENI that is meant; null: nobody said. */
  readonly eni: EniId | null;
  readonly stateDir: string;
  readonly exposed: Places['exposed'];
  /** Null: this host has no agent. */
  readonly agent: AgentParts | null;
  /** Null: a server elsewhere asks EC2 and has the ledger. */
  readonly own: OwnServer | null;
  /** The longest time of one check, in milliseconds. */
  readonly boundMs?: number;
}
